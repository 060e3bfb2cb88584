import { carryOverMessages, continueAfterPause } from "../dispatch/continuation.ts";
import { pausingCodes } from "../protocol/failure.ts";
import type { Settle } from "../protocol/settle.ts";
import type { Cause } from "../state/cause.ts";
import type { Daemon } from "../state/daemon.ts";
import type { Tx } from "../state/database.ts";
import { release } from "../state/lease.ts";
import { isByPerson } from "../state/origin.ts";
import { recordHead } from "../state/pipeline.ts";
import { requestOnce } from "../state/report.ts";
import { endCancelled, findRun, isOver, move, type Run, requestPositions } from "../state/run.ts";
import type { RunState } from "../state/schema.ts";
import { revive } from "./revive.ts";
import { type Attempt, isRefused, type Refused, speaksFor } from "./speaks-for.ts";

type Settled = { settled: true };

/** Ends an attempt. Asked again after it did, it says so without changing anything. */
export async function settle(tx: Tx, of: Attempt, end: Settle): Promise<Settled | Refused> {
  const { daemon } = of;
  // Its daemon was away, and tells the end before it has renewed its lease.
  await revive(tx, of);
  const run = await speaksFor(tx, of);
  if (isRefused(run)) return (await isSettled(tx, of)) ? { settled: true } : run;
  if (end.lastSeq > run.lastSeq)
    return {
      code: "gap",
      error: `Events up to ${end.lastSeq} belong to this run, and ${run.lastSeq} are here: send the rest first.`,
    };
  if (isOver(run.state)) return { settled: true };
  await release(tx, run.id);
  if (end.outcome === "declined" && run.state === "claimed") await decline(tx, daemon, run, end);
  else await endRun(tx, daemon, run, end);
  await requestPositions(tx, run.workspace);
  tx.wake("queue");
  return { settled: true };
}

async function isSettled(tx: Tx, { daemon, runId, attempt }: Attempt): Promise<boolean> {
  const run = await findRun(tx, runId);
  return run !== null && isOver(run.state) && run.attempt === attempt && run.daemon === daemon.name;
}

async function endRun(tx: Tx, daemon: Daemon, run: Run, end: Settle) {
  if (end.head) await recordHead(tx, run.pipelineId, end.head);
  const to = endState(run, end);
  const cause: Cause | null =
    to === "cancelled" ? (run.cancelledBy ?? { by: "daemon", name: daemon.name }) : null;
  const changes = {
    changed: end.changed,
    headSha: end.head ?? run.headSha,
    stage: null,
    failureCode: end.failure?.code ?? null,
    failureDetail: end.failure?.detail ?? null,
    ...(cause ? { cancelledBy: cause } : {}),
  };
  const failure = end.failure?.code ?? null;
  const ended = await move(tx, run, to, changes, { type: "ended", state: to, failure, cause });
  if (!ended) return;
  if (ended.failureCode === "asked_question") await requestQuestion(tx, ended);
  const code = pausingCodes.find((one) => one === ended.failureCode);
  if (code && end.quota) await continueAfterPause(tx, daemon, ended, { ...end.quota, code });
  await carryOverMessages(tx, ended);
}

function endState(run: Run, { outcome }: Settle): RunState {
  // Declined after it had started: it may have pushed, so it cannot go back to the queue.
  if (outcome === "declined") return "failed";
  // Before it started a run can only fail or be cancelled.
  if (run.state === "claimed" && outcome !== "cancelled") return "failed";
  return outcome;
}

/** The agent's question in a comment of its own: the edit of one notifies nobody. */
async function requestQuestion(tx: Tx, run: Run) {
  const { workspace, repository, thread, agent, requestedBy } = run;
  const reply = {
    kind: "question" as const,
    to: isByPerson(run.origin) ? requestedBy : null,
    agent,
    text: run.failureDetail ?? "",
  };
  const wanted = { kind: "reply" as const, repository, issue: thread, reply };
  await requestOnce(tx, { workspace, subject: `question:${run.id}`, wanted });
}

/** Back to the queue, and not offered to this daemon again. */
async function decline(tx: Tx, daemon: Daemon, run: Run, end: Settle) {
  if (run.cancelledBy) return void (await endCancelled(tx, run, run.cancelledBy));
  const declinedBy = [...run.declinedBy, daemon.id];
  await move(
    tx,
    run,
    "queued",
    { declinedBy, daemon: null },
    {
      type: "requeued",
      daemon: daemon.name,
      why: "declined",
      detail: end.failure?.detail ?? "",
    },
  );
}
