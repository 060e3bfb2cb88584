import { markTried, type WantedOf } from "../state/report.ts";
import { replyBody } from "../view/reply.ts";
import { done, madeSince, type Turn, type Written } from "./turn.ts";

/** Writes an answer in a comment of its own, once. */
export async function writeReply(turn: Turn): Promise<Written> {
  const { db, installation, report } = turn;
  const { repository, issue, reply } = report.wanted as WantedOf<"reply">;
  const marker = `<!-- trimo:reply=${report.subject} -->`;
  if (report.triedAt !== null) {
    const since = madeSince(report);
    if (await installation.findComment(repository, issue, marker, since)) return done(turn);
  }
  await db.write((tx) => markTried(tx, report));
  await installation.createComment(repository, issue, `${marker}\n${replyBody(reply)}`);
  return done(turn);
}
