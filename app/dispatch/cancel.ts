import type { Tx } from "../state/database.ts";
import { logOwn } from "../state/event.ts";
import { requestCancel } from "../state/lease.ts";
import { type Pipeline, record } from "../state/pipeline.ts";
import {
  endCancelled,
  openRuns,
  type Run,
  recordCancel,
  wantPlaces,
  wantShown,
} from "../state/run.ts";
import type { Wake } from "../state/wake.ts";

/** A queued run ends at once; one that a daemon holds is asked to stop, and keeps its work. */
export async function cancelRun(tx: Tx, at: number, run: Run, by: string) {
  if (run.state === "queued") {
    await endCancelled(tx, at, run, by);
    return;
  }
  if (run.cancelledBy) return;
  await recordCancel(tx, run.id, by);
  await requestCancel(tx, run.id);
  await logOwn(tx, run.id, at, { type: "cancel_requested", by });
  await wantShown(tx, at, run, true);
}

/** Every open run of a pipeline, stopped; gives them as they were. */
export async function cancelRuns(
  tx: Tx,
  at: number,
  pipelineId: string,
  by: string,
): Promise<Run[]> {
  const open = await openRuns(tx, pipelineId);
  // The last first: a run that ends must not hand the line to one that is to end as well.
  for (const run of [...open].reverse()) await cancelRun(tx, at, run, by);
  if (open[0]) await wantPlaces(tx, at, open[0].workspace);
  return open;
}

/** What it stood on is gone or over: nothing is added to it any more. */
export async function endPipeline(
  tx: Tx,
  at: number,
  pipeline: Pipeline,
  by: string,
): Promise<Run[]> {
  const stopped = await cancelRuns(tx, at, pipeline.id, by);
  await record(tx, pipeline.id, { state: "closed" });
  return stopped;
}

/** Tells those who wait: the daemons that hold one, and whoever looks at it. */
export function wakeStopped(wake: Wake, stopped: Run[]) {
  for (const run of stopped) {
    wake.emit("run", run.id);
    wake.emit("reports", run.workspace);
    if (run.state !== "queued") wake.emit("cancel", run.daemon ?? "", run.id, run.attempt);
  }
  if (stopped.length > 0) wake.emit("queue");
}
