import { desc, eq } from "drizzle-orm";
import { promptMax, type Settle } from "../protocol/wire.ts";
import type { Tx } from "../state/database.ts";
import { pauseAgents } from "../state/pause.ts";
import { findPipeline } from "../state/pipeline.ts";
import { wantOnce } from "../state/report.ts";
import { openRuns, type Run, recordRequest, startAfter, wantAllPlaces } from "../state/run.ts";
import { runs } from "../state/schema.ts";
import type { Daemon } from "./queue.ts";

/** A pipeline goes on by itself so often in a row; then a person looks at it. */
const inARowMax = 8;
const suffix = " · quota";

/** Whether a run goes on for one that was ended by its service. */
export const isContinuation = (trigger: string): boolean => trigger.endsWith(suffix);

/**
 * A run whose service takes no more goes on by itself, as a new run on what it has pushed. Which agent
 * of its list takes it, and when, is decided when it is claimed.
 */
export async function goOnAfterQuota(
  tx: Tx,
  at: number,
  daemon: Daemon,
  run: Run,
  quota: NonNullable<Settle["quota"]>,
) {
  await pauseAgents(tx, at, daemon, quota);
  await wantAllPlaces(tx, at);
  const pipeline = await findPipeline(tx, run.pipelineId);
  if (pipeline?.state !== "open" || run.cancelledBy) return;
  const again = isContinuation(run.trigger);
  const asked = again ? run.prompt : `${goOn(run.number)}\n\n${run.composed ?? run.prompt}`;
  const prompt = asked.slice(0, promptMax);
  const [waiting] = await openRuns(tx, run.pipelineId);
  // Somebody has asked for the next one already: that does both.
  if (waiting) {
    const both = `${waiting.prompt}\n\nBut first:\n\n${prompt}`.slice(0, promptMax);
    return await recordRequest(tx, at, waiting, both);
  }
  if ((await inARow(tx, run)) >= inARowMax) return await giveUp(tx, at, run);
  const trigger = again ? run.trigger : `${run.trigger}${suffix}`;
  const { requestedBy } = run;
  await startAfter(tx, at, run, pipeline.priority, {
    kind: "continue",
    prompt,
    requestedBy,
    trigger,
  });
}

const goOn = (number: number): string =>
  `Go on with what run ${number} was asked; it was ended in the middle because its service took no more requests for a while:`;

async function giveUp(tx: Tx, at: number, run: Run) {
  const body = `❓ Run ${run.number} is the ${inARowMax}th in a row here that its service has ended for its quota, so Trimo does not go on by itself. \`/trimo continue\` does, when there is quota again.`;
  const data = { repository: run.repository, issue: run.thread, body };
  if (run.thread) await wantOnce(tx, at, run.workspace, "reply", `quota:${run.id}`, data);
}

async function inARow(tx: Tx, run: Run): Promise<number> {
  const newestFirst = await tx
    .select({ trigger: runs.trigger })
    .from(runs)
    .where(eq(runs.pipelineId, run.pipelineId))
    .orderBy(desc(runs.number))
    .limit(inARowMax + 1);
  const other = newestFirst.findIndex(({ trigger }) => !isContinuation(trigger));
  return other < 0 ? newestFirst.length : other;
}
