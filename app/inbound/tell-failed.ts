import { GitHubError } from "../github/error.ts";
import { isBot } from "../github/objects.ts";
import type { Tx } from "../state/database.ts";
import type { Delivery } from "../state/delivery.ts";
import { requestOnce } from "../state/report.ts";
import { parseCommand } from "../text/command.ts";
import { peek, threadOf, wordsOf } from "./peek.ts";

/** Whoever asked for something that could not be done is told so in their thread, once. */
export async function tellFailed(tx: Tx, { guid, payload }: Delivery, error: unknown) {
  const asked = peek(payload);
  const issue = asked && threadOf(asked);
  if (!asked?.installation || !asked.repository || !issue || !speaksToTrimo(asked)) return;
  const why = error instanceof GitHubError ? error.message : null;
  const reply = { kind: "undone" as const, why };
  const repository = asked.repository.full_name;
  const wanted = { kind: "reply" as const, repository, issue, reply };
  const { id: workspace } = asked.installation;
  await requestOnce(tx, { workspace, subject: `undone:${guid}`, wanted });
}

function speaksToTrimo(asked: NonNullable<ReturnType<typeof peek>>): boolean {
  const { action, sender, label } = asked;
  if (!sender || isBot(sender)) return false;
  if (parseCommand(wordsOf(asked)) !== null) return true;
  // Which other labels start a run is what GitHub did not show.
  return action === "labeled" && /^trimo\b/i.test(label?.name ?? "");
}
