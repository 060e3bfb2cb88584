import { count } from "./units.ts";

// What a run's prompt leaves out, and what has happened to the branch: said to the agent in its prompt,
// and to people on the check.

export const longThread = "Part of a very long thread.";

/** `number` comments by people who may not write to the repository. */
export const outsidersLeftOut = (number: number): string =>
  `${count(number, "comment")} by people without write permission ${wasLeftOut(number)}.`;

/** `number` comments whose words of the time of the request are not known any more. */
export const editedLeftOut = (number: number): string =>
  `${count(number, "comment")} edited after this run was requested ${wasLeftOut(number)}.`;

/** `number` pieces of the section `heading` that the prompt has no room for. */
export const didNotFit = (number: number, heading: string): string =>
  `${number} of "${heading}" did not fit; the oldest were left out first.`;

/** `commits` commits since the run `last`; `head` is where the branch is now. */
export const pushedSince = (last: number, commits: number, head: string): string =>
  `Since run ${last}, somebody has pushed ${count(commits, "commit")} to the branch; it is at ${head.slice(0, 7)}, and this run starts there.`;

/** A force-push since the run `last`; `head` is where the branch is now. */
export const rewrittenSince = (last: number, head: string): string =>
  `Since run ${last}, the history of the branch was rewritten (a force-push); it is at ${head.slice(0, 7)}, and this run starts there.`;

const wasLeftOut = (number: number): string => (number === 1 ? "was left out" : "were left out");
