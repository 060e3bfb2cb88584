import type { DeliveryPlace } from "../state/delivery.ts";
import { parseCommand } from "../text/command.ts";
import { peek, threadOf, wordsOf } from "./peek.ts";

const nowhere: DeliveryPlace = { repositoryId: null, thread: null, branch: null, express: false };

/**
 * What a delivery's bytes tell of, and whether they hold a `/trimo cancel`. What cannot be read has no
 * place: its handling says why.
 */
export function placeOfDelivery(body: string): DeliveryPlace {
  const peeked = peek(body);
  if (!peeked) return nowhere;
  const { repository, check_suite, check_run, ref } = peeked;
  const pushed = /^refs\/heads\/(.+)$/.exec(ref ?? "")?.[1];
  return {
    repositoryId: repository?.id ?? null,
    thread: threadOf(peeked),
    branch: check_suite?.head_branch ?? check_run?.check_suite?.head_branch ?? pushed ?? null,
    express: isCancel(wordsOf(peeked)),
  };
}

function isCancel(words: string): boolean {
  if (!/cancel/i.test(words)) return false;
  const spoken = parseCommand(words);
  return spoken !== null && "name" in spoken && spoken.name === "cancel";
}
