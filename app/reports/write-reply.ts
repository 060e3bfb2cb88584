import { markTried, type WantedOf } from "../state/report.ts";
import { replyBody } from "../view/reply.ts";
import { done, type Turn, type Written } from "./turn.ts";

/** How long before a report was due its comment may have been made, in milliseconds. */
const madeBeforeMs = 3_600_000;

/** Writes an answer in a comment of its own, once. */
export async function writeReply(turn: Turn): Promise<Written> {
  const { db, installation, report } = turn;
  const { repository, issue, reply } = report.wanted as WantedOf<"reply">;
  const marker = `<!-- trimo:reply=${report.subject} -->`;
  if (report.tried) {
    const since = new Date(report.dueAt - madeBeforeMs).toISOString();
    if (await installation.findComment(repository, issue, marker, since)) return done(turn);
  }
  await db.write((tx) => markTried(tx, report));
  await installation.createComment(repository, issue, `${marker}\n${replyBody(reply)}`);
  return done(turn);
}
