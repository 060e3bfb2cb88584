import { utcTime } from "../../app/protocol/clock.ts";
import { crashAt } from "../../app/protocol/crash.ts";
import type { Job } from "../../app/protocol/job.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import type { Settle } from "../../app/protocol/settle.ts";
import { nothingSpent } from "../agents/adapter.ts";
import { volumeName } from "../docker/container-spec.ts";
import type { LimitHit } from "../gateway/model/model.ts";
import { Pusher } from "../repository/pusher.ts";
import { keepLease } from "../server/lease.ts";
import { quotaOf, settleSession } from "./agent-setup.ts";
import { type Attempt, decide, openAttempt, type Parts } from "./attempt.ts";
import { keepCommits, removeContainerAndVolume, removeHeld, removeRunFolder } from "./clean-up.ts";
import { follow } from "./follow.ts";
import { recordKept } from "./kept.ts";
import { died, type Outcome } from "./outcome.ts";
import { type Prepared, prepare, reattach } from "./prepare.ts";
import { Cancelled, isDockerAway, refusalOf } from "./refusal.ts";
import { rescue } from "./rescue.ts";
import type { Plan, RunRecord } from "./run-record.ts";
import { closeWith, nothingPushed, settle } from "./settle.ts";
import { type Controls, renewNow } from "./signals.ts";
import { agentProblem, verdictOf } from "./verdict.ts";
import type { Watched } from "./watched.ts";

// One attempt of a run, from its lease to its end:
//
//   prepare ─▶ follow ─▶ (rescue) ─▶ push ─▶ verdict ─▶ container gone ─▶ settle ─▶ folder gone
//      │ cannot be done                         ▲
//      └────────────── refusal ─────────────────┘
//
// What is decided is written to record.json before it is done, so a daemon that is killed anywhere
// goes on from there. A lost lease stops the container and leaves the rest to the next start.

/** A container that ends before it has read its task is begun again this often. */
const beginningsMax = 2;
/** How long in all an engine that does not answer is waited for before the run fails. */
const dockerAwayMsMax = 30 * 60_000;
const dockerRetry = { baseMs: 250, mostMs: 5_000 };

/**
 * What becomes of a run. `rescue`: the lease is gone, but nobody has built on the pipeline since; stop
 * the container and push what there is. `keep`: somebody has; stop it, and keep what there is on this
 * machine.
 */
export type Mode = "run" | "rescue" | "keep";

/**
 * Executes a claimed run, or goes on with one that an earlier daemon had begun (`before`).
 *
 * @throws Error of the daemon's own, as a full disk: the caller tries again from the record.
 */
export async function runJob(
  parts: Parts,
  job: Job,
  controls: Controls,
  before: RunRecord | null,
  mode: Mode,
) {
  if (controls.leave.aborted) return;
  const attempt = openAttempt(parts, job, controls, before);
  const loops = beginLoops(parts, attempt, mode, controls);
  try {
    const end = attempt.record.current.end ?? (await execute(parts, attempt, mode, controls));
    if (end) await finish(parts, attempt, mode, end);
  } finally {
    attempt.signals.finish();
    await Promise.allSettled(loops);
  }
}

/** Renewing and sending go on beside the work until it is over. */
function beginLoops(
  { server, clock, log }: Parts,
  { job, outbox, messages, signals, term }: Attempt,
  mode: Mode,
  { cancel, renewals }: Controls,
): Promise<void>[] {
  // What is kept aside is never pushed to the branch: it is somebody else's by now.
  if (mode === "rescue") term.lift();
  if (mode === "keep") return [];
  const { run, attempt, leaseMs } = job;
  const onLost = (why: string) => {
    log.warn({ run, why }, "the run is no longer this daemon's");
    signals.lose(why);
  };
  const sending = outbox
    .send(server, { run, attempt }, new RunningState(clock, signals.over))
    .catch((error) => onLost(String(error)));
  if (mode === "rescue") return [sending];
  const renewing = new RunningState(clock, signals.over);
  const renew = () => renewing.wake();
  renewals.add(renew);
  const holder = {
    onCancel: () => cancel.abort(),
    onLost,
    term,
    onSilent: () =>
      log.warn({ run }, "the app is silent; the run goes on, and its pushes wait for the app"),
    received: () => messages.received,
    onMessages: messages.take.bind(messages),
  };
  const lease = keepLease(server, { runId: run, attempt, leaseMs }, holder, renewing);
  return [sending, lease.finally(() => renewals.delete(renew))];
}

/** How a run ended; null when it was taken from this daemon: nothing is settled, the next start decides. */
async function execute(
  parts: Parts,
  attempt: Attempt,
  mode: Mode,
  controls: Controls,
): Promise<Settle | null> {
  const { record, signals, job, outbox } = attempt;
  for (let beginnings = 1; ; beginnings++) {
    // What fails here is tried again from the record: the container may well be at work.
    const prepared = (await reattach(parts, attempt)) ?? (await prepareOrRefuse(parts, attempt));
    if (prepared === null) return null;
    if ("outcome" in prepared) return closeWith(attempt, prepared, nothingPushed);
    // A started run's lease is longer: from the moment the app knows of it, should it be away soon.
    void outbox.delivered(signals.over).then(() => renewNow(controls));
    const pusher = pusherFor(parts, attempt, prepared);
    const watched = watchedOf(parts, attempt, prepared, pusher);
    const outcome = await outcomeOf(record.current, watched);
    crashAt("daemon: the container has ended");
    if (signals.over.aborted) return null;
    // Killed between starting it and handing it the task: nothing has happened yet.
    const neverBegan = outcome.died && !outcome.began && !signals.cancel.aborted;
    if (neverBegan && beginnings < beginningsMax) {
      await removeContainerAndVolume(parts.engine, job, record.current.containerId);
      continue;
    }
    const rescued = record.current.pushing !== null;
    if (outcome.died && outcome.began && !rescued)
      await rescue(parts, attempt, outcome, watched, prepared.agent.task);
    if (signals.over.aborted) return null;
    if (mode !== "keep") return await conclude(parts, attempt, prepared, outcome, pusher, controls);
    const changed = (await prepared.gate.head()) !== prepared.plan.startSha;
    record.update({ keep: changed });
    return closeWith(attempt, { outcome: "cancelled", failure: null }, nothingPushed);
  }
}

/** What came of the container: as it is on record, or by following it to its end. */
async function outcomeOf({ pushing, died: known }: RunRecord, watched: Watched): Promise<Outcome> {
  if (pushing) return pushing.outcome;
  return known ? died(known) : await follow(watched);
}

/** A container at work, or why there is none; null when the run was taken from this daemon meanwhile. */
async function prepareOrRefuse(parts: Parts, attempt: Attempt) {
  const { clock } = parts;
  const { job, record, signals } = attempt;
  /** Since when Docker has not answered, in milliseconds since 1970. */
  let since: number | null = null;
  for (;;) {
    try {
      if (since !== null)
        await removeContainerAndVolume(parts.engine, job, record.current.containerId);
      return await prepare(parts, attempt);
    } catch (error) {
      if (signals.over.aborted) return null;
      // Nothing has happened yet: a Docker that is being restarted is waited for.
      if (isDockerAway(error)) {
        if (since === null) sayDockerIsAway(attempt, clock.now());
        since ??= clock.now();
        if (await dockerIsBack(parts, attempt, since + dockerAwayMsMax)) continue;
      }
      // While it was waited for, the daemon left or the lease ended: the run is not over by that.
      if (signals.over.aborted) return null;
      if (signals.cancel.aborted) return refusalOf(new Cancelled());
      parts.log.error({ err: error, run: job.run }, "the run could not begin");
      return refusalOf(error);
    }
  }
}

function sayDockerIsAway({ outbox }: Attempt, since: number) {
  const text = `Docker does not answer; waiting since ${utcTime(since)}`;
  outbox.add({ type: "notice", text });
}

/** Whether Docker answers again before long, and the run is still wanted. */
async function dockerIsBack({ engine, clock }: Parts, { signals }: Attempt, until: number) {
  const state = new RunningState(clock, AbortSignal.any([signals.over, signals.cancel]));
  while (state.running && clock.now() < until) {
    await state.backOff(dockerRetry);
    const answers = await engine.ping().then(
      () => true,
      () => false,
    );
    if (answers) return state.running;
  }
  return false;
}

function pusherFor(
  { clock }: Parts,
  { outbox, pushToken, term, signals }: Attempt,
  { gate, plan }: Prepared,
): Pusher {
  // What the app and GitHub have been told already, by this daemon or the one before.
  const commit = outbox.events.findLast((event) => event.type === "commit");
  const pushed = outbox.events.findLast((event) => event.type === "pushed");
  const told = commit?.type === "commit" ? commit.sha : plan.startSha;
  const onGitHub = pushed?.type === "pushed" ? pushed.sha : plan.branchSha;
  const pusher = new Pusher({
    gate,
    at: { told, onGitHub, start: plan.startSha },
    token: pushToken,
    isOurs: () => term.isGood,
    clock,
    tell: outbox.add.bind(outbox),
    signal: signals.over,
  });
  term.onRegained(() => pusher.nudge());
  return pusher;
}

function watchedOf(
  { config, engine, disk, clock, log }: Parts,
  attempt: Attempt,
  { container, carrier, gate, plan, agent }: Prepared,
  pusher: Pusher,
): Watched {
  const { folder, outbox, secrets, signals, github, messages, onConnection, record } = attempt;
  const { model, sessionFiles, reader, meter } = agent;
  const onSessionLost = () => {
    const current = planOf(record.current, plan);
    const launch = { ...current.launch, resume: null, spentBefore: nothingSpent };
    record.update({ plan: { ...current, launch } });
    reader.forget();
  };
  return {
    config,
    disk,
    clock,
    log,
    folder,
    outbox,
    secrets,
    signals,
    engine,
    container,
    carrier,
    endpoints: { gate, github, messages, model, sessionFiles },
    plan,
    reader,
    onSessionLost,
    meter,
    connection: onConnection,
    pusher,
  };
}

const planOf = (record: RunRecord, prepared: Plan): Plan => record.plan ?? prepared;

/** The run's work on GitHub, or kept beside, and what that makes of the run. */
async function conclude(
  parts: Parts,
  attempt: Attempt,
  prepared: Prepared,
  outcome: Outcome,
  pusher: Pusher,
  controls: Controls,
): Promise<Settle | null> {
  const { clock } = parts;
  const { job, outbox, record, signals } = attempt;
  if (!record.current.pushing) outbox.add({ type: "stage", stage: "pushing" });
  const { model } = prepared.agent;
  const said = agentProblem(outcome.agentProblem, record.current.limitHit, model);
  // What the model's service said last is known to this start of the daemon alone.
  const { since, problem } = record.current.pushing ?? { since: clock.now(), problem: said };
  await decide(attempt, { pushing: { since, outcome, problem } });
  crashAt("daemon: the last push begins");
  let isFreed = false;
  const push = await pusher.finish(`${job.branch}-run-${job.number}`, {
    since,
    longMs: parts.config.push_minutes * 60_000,
    cancel: signals.cancel,
    onWaiting() {
      const text = `GitHub does not take the commits; waiting since ${utcTime(since)}`;
      outbox.add({ type: "notice", text });
    },
    onLong: async () => {
      if (!isFreed) isFreed = await freeSlot(parts, attempt, controls);
    },
  });
  // Not before: the last push may just be on its way through.
  const { changed } = pusher;
  if (signals.over.aborted) return null;
  record.update({ keep: !push.ok && push.kept === null && changed });
  const plan = planOf(record.current, prepared.plan);
  await keepSession(parts, attempt, { ...prepared, plan }, outcome);
  crashAt("daemon: the session is settled");
  const { limitHit } = record.current;
  const asked = outbox.events.findLast((event) => event.type === "ask");
  const ending = verdictOf({
    outcome,
    push,
    cancelled: signals.cancel.aborted,
    limitHit,
    question: asked?.type === "ask" ? asked.text : null,
    problem,
    isScript: plan.settings.adapter === "script",
    volumeKept: record.current.keepVolume,
  });
  const { keep, keepVolume } = record.current;
  if (keep || keepVolume) outbox.add({ type: "kept", commits: keep, volume: keepVolume });
  const quota = pauseFor(problem, { config: parts.config, plan });
  return closeWith(attempt, ending, { head: push.ok ? push.head : null, changed, quota });
}

/** For how long this run's agents pause, and which; null: its model's service takes requests. */
function pauseFor(
  problem: LimitHit | null,
  { config, plan }: { config: Parts["config"]; plan: Plan },
): Settle["quota"] {
  if (problem?.code === "quota_reached") return quotaOf(config, plan, problem.resetAt);
  return problem?.code === "model_overloaded" ? quotaOf(config, plan, null) : null;
}

/** What remains to be done needs no container: another run may have its place. False: it could not be removed now. */
async function freeSlot(
  { engine, log }: Parts,
  { job, record }: Attempt,
  { onContainerGone }: Controls,
): Promise<boolean> {
  try {
    await removeHeld(engine, job, record.current);
    onContainerGone();
    return true;
  } catch (error) {
    // An engine that is away: it is removed at the end as well.
    log.warn({ err: error, run: job.run }, "the container of a waiting run could not be removed");
    return false;
  }
}

/** That an agent's session cannot be kept never fails its run. */
async function keepSession(
  { config, clock, log }: Parts,
  { job, folder, outbox, secrets, record, signals }: Attempt,
  { plan, agent }: Prepared,
  outcome: Outcome,
) {
  // One that was ended says nothing about its session.
  const ended = outcome.agent?.stopReason || signals.cancel.aborted || record.current.limitHit;
  const problem = outcome.agent && !ended ? outcome.agentProblem : null;
  try {
    await settleSession({ config, job, folder, outbox, secrets, clock }, plan, agent, problem);
  } catch (error) {
    log.warn({ err: error, run: job.run }, "the agent's session could not be kept");
  }
}

/** From a known end to nothing left: each step may be done twice. */
async function finish(parts: Parts, attempt: Attempt, mode: Mode, end: Settle) {
  const { engine, clock, log } = parts;
  const { job, folder, record, signals } = attempt;
  crashAt("daemon: the end is closed");
  await decide(attempt, { end });
  crashAt("daemon: the end is on record");
  const { keep, keepVolume } = record.current;
  const volume = keepVolume ? volumeName(job.run, job.attempt) : null;
  await removeHeld(engine, job, record.current);
  crashAt("daemon: the container is removed");
  // Before the app hears of the end: from then on people look for it here.
  const commits = keep ? await keepCommits(parts, attempt) : null;
  if (commits) crashAt("daemon: commits are bundled");
  if (commits || volume) {
    const { run, number, repository, branch, title } = job;
    const since = clock.now();
    const about = { run, attempt: job.attempt, number, repository, branch, title };
    recordKept(parts, { ...about, since, commits, volume });
    crashAt("daemon: what is kept is on record");
  }
  if (mode !== "keep" && !(await settle(parts, attempt, end))) return;
  crashAt("daemon: the end is told");
  if (signals.over.aborted) return;
  await removeRunFolder(parts, folder, job);
  crashAt("daemon: the folder is removed");
  if (mode === "keep") log.warn({ run: job.run, kept: keep }, "another run goes on instead");
}
