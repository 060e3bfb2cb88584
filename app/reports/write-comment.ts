import type { GitHubError } from "../github/error.ts";
import { crashAt } from "../protocol/crash.ts";
import { hashOf } from "../state/identity.ts";
import { markTried } from "../state/report.ts";
import { findRun, isOver, type Run, recordComment } from "../state/run.ts";
import { commentBody, commentMarker } from "../view/comment-body.ts";
import { viewRun } from "../view/run-view.ts";
import { done, madeSince, progressAt, type Turn, type Written } from "./turn.ts";

/** Between two edits that only show progress. */
const progress = { leastMs: 5_000, mostMs: 120_000, part: 0.1 };

/** Writes a run's one comment, edited in place until the run has ended. */
export async function writeComment(turn: Turn): Promise<Written> {
  const { db, report, now, links } = turn;
  const view = await viewRun(db.read, report.subject, now);
  // One that people deleted is not written again.
  if (!view || view.run.commentDeleted) return done(turn);
  const { run } = view;
  const body = commentBody(view, links, now);
  const written = await put(turn, run, body, hashOf(body));
  if (written) await db.write((tx) => recordComment(tx, run.id, written));
  const current = await findRun(db.read, run.id);
  return !current || isOver(current.state) ? done(turn) : progressAt(run, now, progress);
}

type Comment = Pick<Run, "commentId" | "commentHash" | "commentDeleted">;

/** What is on GitHub then; null: nothing has changed. */
async function put(turn: Turn, run: Run, body: string, hash: string): Promise<Comment | null> {
  const { db, installation, report } = turn;
  const known = run.commentId ?? (report.triedAt === null ? null : await findAgain(turn, run));
  if (known === null) {
    await db.write((tx) => markTried(tx, report));
    const commentId = await installation.createComment(run.repository, run.thread, body);
    crashAt("app: a comment is made");
    return { commentId, commentHash: hash, commentDeleted: false };
  }
  if (hash === run.commentHash) return null;
  await installation.updateComment(run.repository, known, body);
  return { commentId: known, commentHash: hash, commentDeleted: false };
}

/** The comment whose creation was not answered; null: it was not made. */
async function findAgain({ installation, report }: Turn, run: Run): Promise<number | null> {
  const marker = commentMarker(run.id);
  return await installation.findComment(run.repository, run.thread, marker, madeSince(report));
}

/** GitHub does not take it: people have deleted the comment, and it is not written again. */
export async function commentRefused({ db, report }: Turn, { status }: GitHubError) {
  const run = await findRun(db.read, report.subject);
  if (run?.commentId == null || (status !== 404 && status !== 410)) return;
  const { commentId, commentHash } = run;
  await db.write((tx) =>
    recordComment(tx, run.id, { commentId, commentHash, commentDeleted: true }),
  );
}
