import { cancelRuns } from "../dispatch/cancel.ts";
import type { CommentEvent } from "../github/github-event.ts";
import type { Tx } from "../state/database.ts";
import { isSaidAfter, saidOfRun } from "../state/intent.ts";
import { findOpen, type Pipeline } from "../state/pipeline.ts";
import { openRuns, type Run } from "../state/run.ts";
import {
  acknowledge,
  answered,
  type Effect,
  type Parts,
  recordIntent,
  type Source,
} from "./intent.ts";

/** `/trimo cancel`: stops every open run of the thread's pipeline and keeps the work. */
export async function cancel(parts: Parts, source: Source, event: CommentEvent) {
  const { repository, sender } = source;
  await recordIntent(parts, source, async (tx): Promise<Effect> => {
    await acknowledge(tx, source, event);
    const pipeline = await findOpen(tx, repository.id, event.issue.number);
    const cause = { by: "person" as const, login: sender };
    // Read late, it must not stop what was asked for after it.
    const spared = pipeline ? await askedAfter(tx, source, pipeline) : [];
    const stopped = pipeline ? await cancelRuns(tx, pipeline.id, cause, spared) : [];
    const [first] = stopped;
    const [since] = spared;
    if (!first && since) return answered({ kind: "asked_since", run: since.number }, since);
    if (!first) return answered({ kind: "nothing_to_cancel" });
    if (first.cancelledBy === null || stopped.some((run) => run.cancelledBy === null))
      return { outcome: "cancel", run: first, reply: null };
    const before = { run: first.number, cause: first.cancelledBy };
    return answered({ kind: "already_stopping", ...before }, first);
  });
}

/** The open runs of a pipeline that were asked for after this was said. */
async function askedAfter(tx: Tx, { said }: Source, { id }: Pipeline): Promise<Run[]> {
  const after: Run[] = [];
  for (const run of said ? await openRuns(tx, id) : []) {
    const asked = await saidOfRun(tx, run.id);
    if (said && asked && !isSaidAfter({ saidAt: said.at, commentId: said.commentId }, asked))
      after.push(run);
  }
  return after;
}
