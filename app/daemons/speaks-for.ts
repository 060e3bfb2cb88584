import type { TokenPurpose } from "../protocol/token.ts";
import type { Daemon } from "../state/daemon.ts";
import type { Tx } from "../state/database.ts";
import { hadAttempt } from "../state/event.ts";
import { heldLease } from "../state/lease.ts";
import { findRun, type Run, runsOf } from "../state/run.ts";

/** Why the app does not take what a daemon sent; nothing has changed. */
export type Refused = { code: "stale" | "gap" | "unknown"; error: string };
/** Whether an answer is a refusal. */
export const isRefused = (answer: object): answer is Refused => "code" in answer;

/** One attempt of a daemon at a run, as its requests name it. */
export type Attempt = { daemon: Daemon; runId: string; attempt: number };

/**
 * The run, if this attempt of this daemon still speaks for it: it holds the lease, or the run was lost
 * while the daemon was away and nothing has been built on the pipeline since, so its work can be rescued.
 */
export async function speaksFor(tx: Tx, of: Attempt): Promise<Run | Refused> {
  const { daemon, runId, attempt } = of;
  const run = await findRun(tx, runId);
  if (!run) return { code: "unknown", error: `There is no run ${runId}.` };
  if (await heldLease(tx, { runId, attempt, daemonId: daemon.id })) return run;
  if (await isRescuable(tx, run, of)) return run;
  return {
    code: "stale",
    error: `Attempt ${attempt} of run ${runId} is no longer this daemon's: the run is ${run.state}, at attempt ${run.attempt}.`,
  };
}

/** How long after a run's end its work is still taken from the machine that had it, in milliseconds. */
const rescueMsMax = 7 * 24 * 3_600_000;

/** Whether this attempt ended without its daemon, and no later run of the pipeline was ever claimed. */
export async function isRescuable(
  tx: Tx,
  run: Run,
  { attempt, daemon }: Pick<Attempt, "attempt" | "daemon">,
): Promise<boolean> {
  const mine = run.attempt === attempt && run.daemon === daemon.name;
  if (!mine || (run.state !== "lost" && run.state !== "cancelled")) return false;
  if (run.endedAt !== null && tx.now - run.endedAt > rescueMsMax) return false;
  const all = await runsOf(tx, run.pipelineId);
  return all.every((other) => other.number <= run.number || other.attempt === 0);
}

/**
 * As `speaksFor`; besides, whoever once had an attempt may push what was kept of it, beside the branch. Nobody
 * else's `push` gets to a token: that is what protects the branch from an attempt that was replaced.
 */
export async function mayPush(tx: Tx, of: Attempt, purpose: TokenPurpose): Promise<Run | Refused> {
  const run = await speaksFor(tx, of);
  if (!isRefused(run) || run.code === "unknown" || purpose !== "kept") return run;
  const { daemon, runId, attempt } = of;
  return (await hadAttempt(tx, runId, { daemon: daemon.name, attempt }))
    ? ((await findRun(tx, runId)) ?? run)
    : run;
}
