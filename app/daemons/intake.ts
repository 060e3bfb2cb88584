import { and, eq, gt, sql } from "drizzle-orm";
import { goOnAfterQuota } from "../dispatch/continuation.ts";
import type { Daemon } from "../dispatch/queue.ts";
import { carryOver } from "../dispatch/unheard.ts";
import { countMax, type Event, type Settle } from "../protocol/wire.ts";
import type { Tx } from "../state/database.ts";
import { logDaemon } from "../state/event.ts";
import { held, release, renew } from "../state/lease.ts";
import { findPipeline, record } from "../state/pipeline.ts";
import { wantOnce } from "../state/report.ts";
import {
  endCancelled,
  findRun,
  isOver,
  move,
  note,
  type Run,
  recordSeq,
  wantPlaces,
} from "../state/run.ts";
import { type RunState, runs } from "../state/schema.ts";
import { agentCommentBody, questionBody } from "../view/comment-body.ts";

/** Why the app does not take what a daemon sent; nothing has changed. */
export type Refused = { code: "stale" | "gap" | "unknown"; error: string };
export const isRefused = (answer: object): answer is Refused => "code" in answer;

/**
 * The run, if this attempt of this daemon still speaks for it: it holds the lease, or it was lost
 * while away and nothing has been built on the pipeline since, so that its work can be rescued.
 */
export async function speaksFor(
  tx: Tx,
  daemon: Daemon,
  runId: string,
  attempt: number,
): Promise<Run | Refused> {
  const run = await findRun(tx, runId);
  if (!run) return { code: "unknown", error: `There is no run ${runId}.` };
  if (await held(tx, runId, attempt, daemon.id)) return run;
  if (await isRescuable(tx, run, attempt, daemon)) return run;
  return {
    code: "stale",
    error: `Attempt ${attempt} of run ${runId} is no longer this daemon's: the run is ${run.state}, at attempt ${run.attempt}.`,
  };
}

export async function isRescuable(tx: Tx, run: Run, attempt: number, daemon: Daemon) {
  const mine = run.attempt === attempt && run.daemon === daemon.name;
  if (!mine || (run.state !== "lost" && run.state !== "cancelled")) return false;
  const later = await tx
    .select({ id: runs.id })
    .from(runs)
    .where(
      and(
        eq(runs.pipelineId, run.pipelineId),
        gt(runs.number, run.number),
        sql`${runs.attempt} > 0`,
      ),
    )
    .limit(1);
  return later.length === 0;
}

/** Stores the events that follow on; ones known already are passed over. Gives the highest stored. */
export async function takeEvents(
  tx: Tx,
  at: number,
  daemon: Daemon,
  runId: string,
  attempt: number,
  sent: Event[],
): Promise<{ acknowledged: number } | Refused> {
  const run = await speaksFor(tx, daemon, runId, attempt);
  if (isRefused(run)) return run;
  const fresh = sent.filter((event) => event.seq > run.lastSeq).sort((a, b) => a.seq - b.seq);
  const gapless = fresh.filter((event, index) => event.seq === run.lastSeq + index + 1);
  if (gapless.length > 0) await logDaemon(tx, run.id, attempt, gapless);
  let now = run;
  for (const event of gapless) now = await apply(tx, at, now, event);
  const acknowledged = gapless.at(-1)?.seq ?? run.lastSeq;
  await recordSeq(tx, run.id, acknowledged);
  if (!isOver(run.state)) await renew(tx, at, run.id);
  return { acknowledged };
}

async function apply(tx: Tx, at: number, run: Run, event: Event): Promise<Run> {
  switch (event.type) {
    case "started": {
      if (run.state !== "claimed") return run;
      const { agent, image, steers } = event;
      const changes = { agent, image, steers, startedAt: at };
      return (await move(tx, at, run, "running", changes, null)) ?? run;
    }
    case "stage":
      await note(tx, at, run, { stage: event.stage });
      return { ...run, stage: event.stage };
    case "commit":
      await note(tx, at, run, { commits: run.commits + 1 });
      return { ...run, commits: run.commits + 1 };
    case "pushed":
      await record(tx, run.pipelineId, { headSha: event.sha });
      await note(tx, at, run, { headSha: event.sha, changed: true });
      return { ...run, headSha: event.sha, changed: true };
    case "usage": {
      const tokens = Math.min(countMax, event.inputTokens + event.outputTokens);
      await note(tx, at, run, { tokens, costMicroUsd: event.costMicroUsd });
      return { ...run, tokens, costMicroUsd: event.costMicroUsd };
    }
    case "receipt":
    case "base":
    case "say":
    case "plan":
    case "session":
    case "told":
    case "service":
      await note(tx, at, run, {});
      return run;
    case "comment":
      await say(tx, at, run, event);
      return run;
    default:
      return run;
  }
}

/** The agent's words under its pipeline's pull request, as a comment of Trimo's. */
async function say(tx: Tx, at: number, run: Run, event: Extract<Event, { type: "comment" }>) {
  const pipeline = await findPipeline(tx, run.pipelineId);
  const issue = pipeline?.pullNumber ?? pipeline?.issue ?? run.thread;
  const data = { repository: run.repository, issue, body: agentCommentBody(run, event.text) };
  const key = `said:${run.id}:${run.attempt}:${event.seq}`;
  if (issue) await wantOnce(tx, at, run.workspace, "reply", key, data);
}

/** Ends an attempt. Asked again after it did, it says so without changing anything. */
export async function settle(
  tx: Tx,
  at: number,
  daemon: Daemon,
  runId: string,
  end: Settle,
): Promise<{ settled: true } | Refused> {
  const run = await speaksFor(tx, daemon, runId, end.attempt);
  if (isRefused(run)) {
    const known = await findRun(tx, runId);
    const again = known && isOver(known.state) && known.attempt === end.attempt;
    return again && known.daemon === daemon.name ? { settled: true } : run;
  }
  if (end.lastSeq > run.lastSeq)
    return {
      code: "gap",
      error: `Events up to ${end.lastSeq} belong to this run, and ${run.lastSeq} are here: send the rest first.`,
    };
  if (isOver(run.state)) return { settled: true };
  await release(tx, run.id);
  if (end.outcome === "declined" && run.state === "claimed") {
    await decline(tx, at, daemon, run, end);
    return { settled: true };
  }
  if (end.head) await record(tx, run.pipelineId, { headSha: end.head });
  const to = endState(run, end);
  const why = end.failure ? end.failure.code : to;
  const over = await move(
    tx,
    at,
    run,
    to,
    {
      changed: end.changed,
      headSha: end.head ?? run.headSha,
      stage: null,
      failureCode: end.failure?.code ?? null,
      failureDetail: end.failure?.detail ?? null,
      ...(to === "cancelled" ? { cancelledBy: run.cancelledBy ?? daemon.name } : {}),
    },
    { type: "ended", state: to, why },
  );
  if (over?.failureCode === "asked_question") await ask(tx, at, over);
  if (over?.failureCode === "quota_reached" && end.quota)
    await goOnAfterQuota(tx, at, daemon, over, end.quota);
  if (over) await carryOver(tx, at, over);
  await wantPlaces(tx, at, run.workspace);
  return { settled: true };
}

/** A comment of its own: the edit of one notifies nobody. */
async function ask(tx: Tx, at: number, run: Run) {
  const pipeline = await findPipeline(tx, run.pipelineId);
  const issue = run.thread || pipeline?.issue;
  const data = { repository: run.repository, issue, body: questionBody(run) };
  await wantOnce(tx, at, run.workspace, "reply", `question:${run.id}`, data);
}

function endState(run: Run, end: Settle): RunState {
  const { outcome } = end;
  // Declined after it had started: it may have pushed, so it cannot go back to the queue.
  if (outcome === "declined") return "failed";
  // Before it started a run can only fail or be cancelled.
  if (run.state === "claimed" && outcome !== "cancelled") return "failed";
  return outcome;
}

/** Back to the queue, and not offered to this daemon again. */
async function decline(tx: Tx, at: number, daemon: Daemon, run: Run, end: Settle) {
  if (run.cancelledBy) {
    await endCancelled(tx, at, run, run.cancelledBy);
    return;
  }
  const declinedBy = [...run.declinedBy.split(",").filter(Boolean), daemon.id].join(",");
  const why = `${daemon.name} declined: ${end.failure?.detail ?? "no reason given"}`;
  await move(tx, at, run, "queued", { declinedBy, daemon: null }, { type: "requeued", why });
  await wantPlaces(tx, at, run.workspace);
}
