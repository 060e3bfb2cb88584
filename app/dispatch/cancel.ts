import type { Cause } from "../state/cause.ts";
import type { Tx } from "../state/database.ts";
import { logOwn } from "../state/event.ts";
import { requestCancel } from "../state/lease.ts";
import { close, type Pipeline } from "../state/pipeline.ts";
import {
  endCancelled,
  openRuns,
  type Run,
  recordCancel,
  requestPositions,
  requestShown,
} from "../state/run.ts";

/** Stops a run: a queued one ends at once, one that a daemon has is asked to stop, and keeps its work. */
async function cancelRun(tx: Tx, run: Run, cause: Cause) {
  if (run.state === "queued") return void (await endCancelled(tx, run, cause));
  tx.wake("cancel", run.daemon ?? "", run.id, run.attempt);
  if (run.cancelledBy) return;
  await recordCancel(tx, run.id, cause);
  await requestCancel(tx, run.id);
  await logOwn(tx, run.id, { type: "cancel_requested", cause });
  await requestShown(tx, run, true);
  tx.wake("run", run.id);
}

/** Stops every open run of a pipeline but the `spared`; gives those it stops as they were before. */
export async function cancelRuns(
  tx: Tx,
  pipelineId: string,
  cause: Cause,
  spared: Run[] = [],
): Promise<Run[]> {
  const isSpared = (run: Run) => spared.some((other) => other.id === run.id);
  const open = (await openRuns(tx, pipelineId)).filter((run) => !isSpared(run));
  // The last first: a run that ends must not hand the queue to one that is to end as well.
  for (const run of [...open].reverse()) await cancelRun(tx, run, cause);
  if (open[0]) await requestPositions(tx, open[0].workspace);
  return open;
}

/** Closes a pipeline and stops its runs; gives the runs that were open. */
export async function endPipeline(tx: Tx, pipeline: Pipeline, cause: Cause): Promise<Run[]> {
  const stopped = await cancelRuns(tx, pipeline.id, cause);
  await close(tx, pipeline, cause);
  return stopped;
}

/** Closes several pipelines and stops their runs; gives the runs that were open. */
export async function endPipelines(tx: Tx, all: Pipeline[], cause: Cause): Promise<Run[]> {
  const stopped: Run[] = [];
  for (const pipeline of all) stopped.push(...(await endPipeline(tx, pipeline, cause)));
  return stopped;
}
