import { renewCheckRuns } from "../state/check-run.ts";
import type { Tx } from "../state/database.ts";
import { grant, renew } from "../state/lease.ts";
import { findPipeline } from "../state/pipeline.ts";
import { findRun, forgetPrompts, reviveRun } from "../state/run.ts";
import { type Attempt, isRescuable } from "./speaks-for.ts";

/**
 * A run that was lost because its daemon was silent goes on when that is heard of again, unless something was
 * built on its pipeline since. Gives the length of its new lease in milliseconds; null: it does not go on.
 */
export async function revive(tx: Tx, of: Attempt): Promise<number | null> {
  const { daemon, runId, attempt } = of;
  const run = await findRun(tx, runId);
  if (run?.state !== "lost" || run.startedAt === null) return null;
  const pipeline = await findPipeline(tx, run.pipelineId);
  if (pipeline?.state !== "open" || !(await isRescuable(tx, run, of))) return null;
  const revived = await reviveRun(tx, run);
  if (!revived) return null;
  await renewCheckRuns(tx, runId);
  // What comes after it was told that it was lost.
  await forgetPrompts(tx, run.pipelineId);
  await grant(tx, { runId, attempt, daemonId: daemon.id, claimKey: `revived-${tx.newId()}` });
  return await renew(tx, runId);
}
