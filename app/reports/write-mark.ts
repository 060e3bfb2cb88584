import type { WantedOf } from "../state/report.ts";
import { done, type Turn, type Written } from "./turn.ts";

/** Puts 👀 on a comment. */
export async function writeReaction(turn: Turn): Promise<Written> {
  const { repository, comment, where } = turn.report.wanted as WantedOf<"reaction">;
  await turn.installation.react(repository, comment, where);
  return done(turn);
}

/** Removes a label that asked for a run. */
export async function removeLabel(turn: Turn): Promise<Written> {
  const { repository, issue, label } = turn.report.wanted as WantedOf<"label">;
  await turn.installation.removeLabel(repository, issue, label);
  return done(turn);
}
