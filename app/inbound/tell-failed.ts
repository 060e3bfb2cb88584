import { z } from "zod";
import { GitHubError } from "../github/error.ts";
import { isBot } from "../github/objects.ts";
import type { Tx } from "../state/database.ts";
import type { Delivery } from "../state/delivery.ts";
import { requestOnce } from "../state/report.ts";
import { parseCommand } from "../text/command.ts";

const Numbered = z.object({ number: z.number() }).nullish();
const Spoken = z.object({ body: z.string().nullish() }).nullish();
const Asked = z.object({
  action: z.string().nullish(),
  installation: z.object({ id: z.number() }),
  repository: z.object({ full_name: z.string() }),
  sender: z.object({ login: z.string(), type: z.string() }),
  issue: Numbered,
  pull_request: Numbered,
  comment: Spoken,
  review: Spoken,
  label: z.object({ name: z.string() }).nullish(),
});
type Asked = z.infer<typeof Asked>;

/** Whoever asked for something that could not be done is told so in their thread, once. */
export async function tellFailed(tx: Tx, { guid, payload }: Delivery, error: unknown) {
  const asked = Asked.safeParse(parsed(payload));
  if (!asked.success || !speaksToTrimo(asked.data)) return;
  const { installation, repository, issue, pull_request } = asked.data;
  const thread = issue?.number ?? pull_request?.number;
  if (thread === undefined) return;
  const why = error instanceof GitHubError ? error.message : null;
  const reply = { kind: "undone" as const, why };
  const wanted = {
    kind: "reply" as const,
    repository: repository.full_name,
    issue: thread,
    reply,
  };
  await requestOnce(tx, { workspace: installation.id, subject: `undone:${guid}`, wanted });
}

function speaksToTrimo({ action, sender, comment, review, label }: Asked): boolean {
  if (isBot(sender)) return false;
  if (parseCommand(comment?.body ?? review?.body ?? "") !== null) return true;
  // Which other labels start a run is what GitHub did not show.
  return action === "labeled" && /^trimo\b/i.test(label?.name ?? "");
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
