import { GitHubError } from "../github/error.ts";
import { hashOf } from "../state/identity.ts";
import { markTried } from "../state/report.ts";
import { findRun, isOver, type Run, recordComment } from "../state/run.ts";
import { commentBody, commentMarker } from "../view/comment-body.ts";
import { viewRun } from "../view/run-view.ts";
import { done, progressAt, type Turn, type Written } from "./turn.ts";

/** Between two edits that only show progress. */
const progress = { leastMs: 5_000, mostMs: 120_000, part: 0.1 };
/** How long before its run was stored a comment may have been made, by GitHub's clock, in milliseconds. */
const clockDriftMs = 60_000;

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
  const known = run.commentId ?? (report.tried ? await findAgain(turn, run) : null);
  if (known === null) {
    await db.write((tx) => markTried(tx, report));
    const commentId = await installation.createComment(run.repository, run.thread, body);
    return { commentId, commentHash: hash, commentDeleted: false };
  }
  if (hash === run.commentHash) return null;
  const commentDeleted = !(await update(turn, run, known, body));
  return { commentId: known, commentHash: hash, commentDeleted };
}

/** The comment whose creation was not answered; null: it was not made. */
async function findAgain({ installation }: Turn, run: Run): Promise<number | null> {
  const since = new Date(run.createdAt - clockDriftMs).toISOString();
  return await installation.findComment(run.repository, run.thread, commentMarker(run.id), since);
}

/** False: somebody has deleted it. */
async function update(
  { installation }: Turn,
  run: Run,
  id: number,
  body: string,
): Promise<boolean> {
  try {
    await installation.updateComment(run.repository, id, body);
    return true;
  } catch (error) {
    if (error instanceof GitHubError && (error.status === 404 || error.status === 410))
      return false;
    throw error;
  }
}
