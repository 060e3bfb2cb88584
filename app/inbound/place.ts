import { z } from "zod";
import type { DeliveryPlace } from "../state/delivery.ts";
import { parseCommand } from "../text/command.ts";

const Numbered = z.object({ number: z.number().nullish() }).nullish();
const Spoken = z.object({ body: z.string().nullish() }).nullish();
const Suite = z.object({ head_branch: z.string().nullish() }).nullish();
/** The few fields of any payload that say what it tells of. */
const Peek = z.object({
  repository: z.object({ id: z.number() }).nullish(),
  issue: Numbered,
  pull_request: Numbered,
  comment: Spoken,
  review: Spoken,
  check_suite: Suite,
  check_run: z.object({ check_suite: Suite }).nullish(),
  ref: z.string().nullish(),
});

const nowhere: DeliveryPlace = { repositoryId: null, thread: null, branch: null, express: false };

/**
 * What a delivery's bytes tell of, and whether they hold a `/trimo cancel`. What cannot be read has no
 * place: its handling says why.
 */
export function placeOfDelivery(body: string): DeliveryPlace {
  const peeked = Peek.safeParse(parsed(body));
  if (!peeked.success) return nowhere;
  const { repository, issue, pull_request, comment, review, check_suite, check_run, ref } =
    peeked.data;
  const pushed = /^refs\/heads\/(.+)$/.exec(ref ?? "")?.[1];
  return {
    repositoryId: repository?.id ?? null,
    thread: issue?.number ?? pull_request?.number ?? null,
    branch: check_suite?.head_branch ?? check_run?.check_suite?.head_branch ?? pushed ?? null,
    express: isCancel(comment?.body ?? review?.body ?? ""),
  };
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return null;
  }
}

function isCancel(words: string): boolean {
  if (!/cancel/i.test(words)) return false;
  const spoken = parseCommand(words);
  return spoken !== null && "name" in spoken && spoken.name === "cancel";
}
