import { GitHubError } from "../github/app.ts";
import { hashOf } from "../state/database.ts";
import { markTried } from "../state/report.ts";
import { findRun, isOver, type Run, recordComment } from "../state/run.ts";
import { commentBody, commentMarker } from "../view/comment-body.ts";
import { viewRun } from "../view/run-view.ts";
import { progressAt, type Turn } from "./turn.ts";

/** Between two edits that only show progress. */
const progress = { leastMs: 5_000, mostMs: 120_000, part: 0.1 };
/** A comment that people deleted is not written again. */
const deleted = 0;

/** Words said once. */
export async function writeReply({ db, workspace, report, now }: Turn): Promise<number> {
  const data = report.data as { repository: string; issue: number; body: string };
  const marker = `<!-- trimo:reply=${report.subject} -->`;
  if (report.tried) {
    const since = new Date(report.dueAt - 3_600_000).toISOString();
    if (await workspace.findComment(data.repository, data.issue, marker, since)) return now;
  }
  await markTried(db, report);
  await workspace.createComment(data.repository, data.issue, `${marker}\n${data.body}`);
  return now;
}

/** A run's one comment, edited in place until it is over. */
export async function writeComment(turn: Turn): Promise<number> {
  const { db, workspace, report, now, links } = turn;
  const view = await viewRun(db, report.subject, now);
  if (!view || view.run.commentId === deleted) return now;
  const { run, pipeline } = view;
  const thread = run.thread || pipeline.issue;
  const body = commentBody(view, links, now);
  const hash = hashOf(body);
  let id = run.commentId;
  if (id === null && report.tried) {
    const since = new Date(run.createdAt - 60_000).toISOString();
    id = await workspace.findComment(run.repository, thread, commentMarker(run.id), since);
  }
  if (id === null) {
    await markTried(db, report);
    id = await workspace.createComment(run.repository, thread, body);
  } else if (hash !== run.commentHash) {
    const kept = await update(turn, run, id, body);
    if (!kept) id = deleted;
  }
  if (id !== run.commentId || hash !== run.commentHash)
    await db.write((tx) => recordComment(tx, run.id, id, hash));
  const current = await findRun(db.read, run.id);
  return !current || isOver(current.state) ? now : progressAt(run, now, progress);
}

/** False: somebody has deleted it. */
async function update({ workspace }: Turn, run: Run, id: number, body: string): Promise<boolean> {
  try {
    await workspace.updateComment(run.repository, id, body);
    return true;
  } catch (error) {
    if (error instanceof GitHubError && (error.status === 404 || error.status === 410))
      return false;
    throw error;
  }
}
