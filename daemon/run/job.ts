import { existsSync, statSync } from "node:fs";
import { mkdir, rename, rm, statfs } from "node:fs/promises";
import { join, posix } from "node:path";
import type { Logger } from "pino";
import { backoffMs, type Clock } from "../../app/protocol/clock.ts";
import type { Failure, FailureCode } from "../../app/protocol/failure.ts";
import { failureDetailMax } from "../../app/protocol/failure.ts";
import { trimoYmlPath } from "../../app/protocol/trimo-yml.ts";
import {
  commentMax,
  type Job,
  type Settle,
  type Tell,
  type TokenPurpose,
  tellMax,
} from "../../app/protocol/wire.ts";
import type { Task } from "../../images/base/task.ts";
import { nothingSpent } from "../agents/adapter.ts";
import type { Config } from "../config.ts";
import {
  type Carrier,
  type Container,
  type Docker,
  DockerError,
  engineFolder,
  imageLabels,
  removeContainer,
  removeVolume,
  type Started,
  startContainer,
  stateOf,
} from "../docker/container.ts";
import { type Box, containerSpec, volumeName } from "../docker/container-spec.ts";
import type { Attempt } from "../gateway/egress.ts";
import { once } from "../gateway/gateway.ts";
import { apiOf, createHub, type Hub } from "../gateway/github-reads.ts";
import { createTells, type Tells, takeTells } from "../gateway/messages.ts";
import type { Cut } from "../gateway/model/proxy.ts";
import { contractLabel, contractVersion, proxyArgs } from "../images/base.ts";
import { BuildError } from "../images/build.ts";
import { BuildRefused, type Builds } from "../images/builds.ts";
import { ContextError } from "../images/context.ts";
import { redact } from "../redact.ts";
import { type Gate, gateHead, makeGate, openGate } from "../repository/gate.ts";
import { GitError } from "../repository/git.ts";
import {
  driftText,
  type Fetched,
  fetchMirror,
  readDrift,
  readMirror,
} from "../repository/mirror.ts";
import { Pusher, type Verdict } from "../repository/pusher.ts";
import { type Server, ServerError } from "../server/client.ts";
import { keepLease } from "../server/lease.ts";
import { Outbox } from "../server/outbox.ts";
import {
  blankReader,
  chooseSession,
  type Harness,
  makeHarness,
  quotaOf,
  settleSession,
  steers,
} from "./agent-setup.ts";
import { cleanEnd, died, follow, leaving, openTunnel, type Story } from "./follow.ts";
import { makePlan, PlanError, refuseDefaultBranch, refuseForeign } from "./plan.ts";
import { type Plan, type Record, runFolder, writeRecord } from "./run-record.ts";

// One run, from lease to settled:
//
//   lease ─▶ prepare (token, mirror, plan, gate) ─▶ container ─▶ follow (journal, output, pushes)
//                     │ cannot be done                                │ ended, however
//                     ▼                                               ▼
//                  settle ◀── delivered ◀── clean up ◀── all on GitHub, or kept beside
//
// What is decided is written to record.json before it is done, so a daemon that is killed anywhere
// goes on from there. A lost lease stops the container and leaves the rest to the next start.

export type Parts = {
  config: Config;
  docker: Docker;
  server: Server;
  clock: Clock;
  log: Logger;
  /** Marks this daemon's containers apart from another's on the same engine. */
  identity: string;
  builds: Builds;
};

/** What the outside may want of a job under way. */
export type Wishes = {
  /** Stop the agent and keep its work. */
  cancel: AbortController;
  /** The daemon itself goes away now; leave everything as it is. */
  leave: AbortSignal;
  /** Called when somebody has said something to the run: it is asked for at once. */
  pokes: (() => void)[];
};

const outputBytesMax = 64 * 2 ** 20;
/** What is kept free of the engine's disk: below it no run begins, and who fills it is ended. */
const reserveBytes = 2 ** 30;
/** A dead container's work is looked for this often. */
const rescuesMax = 3;
const settleMsMax = 10 * 60_000;
/** A container that ends before it has read its task is begun again this often. */
const beginningsMax = 2;
const fetchTriesMax = 4;
/** How long an engine that does not answer is waited for before the run fails. */
const dockerAwayMsMax = 3 * 60_000;
const awaysMax = 5;

type Work = Parts & {
  job: Job;
  folder: string;
  outbox: Outbox;
  record: Record;
  secrets: Set<string>;
  cancel: AbortController;
  /** Aborts when this attempt is no longer ours, or the daemon leaves. */
  over: AbortController;
  token: () => Promise<string>;
  hub: Hub;
  /** What people say to the run while it works. */
  tells: Tells;
  /** Aborts when the agent is to be ended for what its model's service says or it has used up. */
  hopeless: AbortController;
  attempt: (attempt: Attempt) => void;
  /** How often Docker has gone while the run was about to begin. */
  aways: number;
};

/**
 * `rescue`: the lease is gone, but nobody has built on the pipeline since; stop the container and push
 * what there is. `keep`: somebody has; stop it, and keep what there is on this machine.
 */
export type Mode = "run" | "rescue" | "keep";

/** Executes a claimed run, or goes on with one that an earlier daemon had begun. */
export async function runJob(
  parts: Parts,
  job: Job,
  wishes: Wishes,
  before: Record | null,
  mode: Mode,
) {
  if (wishes.leave.aborted) return;
  const folder = runFolder(parts.config.data, job.run, job.attempt);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const record = before ?? {
    job,
    plan: null,
    containerId: null,
    died: null,
    cut: null,
    keep: false,
    end: null,
  };
  if (!before) writeRecord(folder, record);
  const over = new AbortController();
  const leave = () => over.abort(leaving);
  wishes.leave.addEventListener("abort", leave);
  const secrets = new Set([parts.config.token, ...proxySecrets()]);
  const outbox = new Outbox(join(folder, "outbox.jsonl"), parts.clock, parts.log);
  const work: Work = {
    ...parts,
    job,
    folder,
    record,
    outbox,
    secrets,
    cancel: wishes.cancel,
    over,
    token: tokenKeeper(parts, job, "push", secrets, over.signal),
    hub: createHub(
      apiOf(parts.config.github),
      job,
      tokenKeeper(parts, job, "read", secrets, over.signal),
      (text) => {
        const fact = { type: "comment" as const, text: redact(text, secrets).slice(0, commentMax) };
        // Counted where a restart does not forget it.
        const heard = outbox.hears(fact);
        if (heard) outbox.add(fact);
        return heard;
      },
      parts.clock,
    ),
    tells: createTells(lastTold(outbox), ({ id, by, text }) =>
      outbox.add({ type: "told", id, by, text: redact(text, secrets).slice(0, tellMax) }),
    ),
    hopeless: new AbortController(),
    attempt: once((attempt) => outbox.add({ type: "egress", ...attempt })),
    aways: 0,
  };
  const loops = beginLoops(work, mode, wishes.pokes);
  try {
    const end = record.end ?? (await execute(work, mode, 1));
    if (end) await finish(work, mode, end);
  } finally {
    wishes.leave.removeEventListener("abort", leave);
    over.abort("done");
    await Promise.allSettled(loops);
  }
}

/** Of a proxy's address: a failing build step may print it. */
function proxySecrets(): string[] {
  return Object.values(proxyArgs()).flatMap((url) => {
    const password = URL.canParse(url) ? new URL(url).password : "";
    return password ? [password, decodeURIComponent(password)] : [];
  });
}

/** Renewing and sending go on beside the work until it is over. */
function beginLoops(work: Work, mode: Mode, pokes: (() => void)[]): Promise<void>[] {
  if (mode === "keep") return [];
  const { server, clock, job, outbox, cancel, over, log, tells } = work;
  const lost = (why: string) => {
    log.warn({ run: job.run, why }, "the run is no longer this daemon's");
    over.abort(why);
  };
  const run = { id: job.run, attempt: job.attempt, leaseMs: job.leaseMs };
  const on = {
    cancel: () => cancel.abort(),
    lost,
    told: () => tells.last,
    tell: (fresh: Tell[]) => takeTells(tells, fresh),
  };
  const sending = outbox
    .send(server, job.run, job.attempt, over.signal)
    .catch((error) => lost(String(error)));
  if (mode === "rescue") return [sending];
  return [sending, keepLease(server, clock, run, on, pokes, over.signal)];
}

const isAway = (error: unknown): boolean =>
  error instanceof DockerError && error.kind === "unavailable";

/** Whether it answers again before long, and the run is still wanted. */
async function dockerIsBack({ docker, clock, outbox, over, cancel }: Work): Promise<boolean> {
  outbox.add({ type: "notice", text: "Docker does not answer; waiting for it" });
  const until = clock.now() + dockerAwayMsMax;
  const stop = AbortSignal.any([over.signal, cancel.signal]);
  for (let tries = 0; clock.now() < until && !stop.aborted; tries++) {
    await clock.sleep(backoffMs(tries, 250, 5_000, Math.random()), stop);
    const answers = await docker.ping().then(
      () => true,
      () => false,
    );
    if (answers) return !stop.aborted;
  }
  return false;
}

type Begun = {
  container: Container;
  carrier: Promise<Carrier | null> | null;
  gate: Gate;
  plan: Plan;
  harness: Harness;
};

/** Null when the run was taken from us: then nothing is settled, and the next start decides. */
async function execute(work: Work, mode: Mode, tries: number): Promise<Settle | null> {
  // What fails here is tried again from the record: the container may well be at work.
  let begun: Begun | null = await reattach(work);
  try {
    begun ??= await begin(work);
  } catch (error) {
    if (work.over.signal.aborted) return null;
    // Nothing has happened yet: a Docker that is being restarted is waited for.
    if (isAway(error) && work.aways++ < awaysMax && (await dockerIsBack(work))) {
      await removeBox(work.docker, work.job, work.record.containerId);
      return await execute(work, mode, tries);
    }
    // While it was waited for, the daemon left or the lease ended: the run is not over by that.
    if (work.over.signal.aborted) return null;
    const why = work.cancel.signal.aborted ? new Cancelled() : error;
    return ended(work, refusalOf(work, why), { head: null, changed: false });
  }
  const { gate, plan } = begun;
  const url = `${work.config.github}/${work.job.repository}.git`;
  const tell = work.outbox.add.bind(work.outbox);
  const at = knownHeads(work, plan);
  const pusher = new Pusher(gate, url, at, work.token, work.clock, tell, work.over.signal);
  const story = work.record.died
    ? died(work.record.died)
    : await follow({ ...work, ...begun, ...watchedOf(work, begun), pusher });
  if (work.over.signal.aborted) return null;
  if (story.died && !story.began && !work.cancel.signal.aborted && tries < beginningsMax) {
    // Killed between starting it and handing it the task: nothing has happened yet.
    await removeBox(work.docker, work.job, work.record.containerId);
    return await execute(work, mode, tries + 1);
  }
  if (story.died) await rescue(work, story, { ...begun, pusher });
  if (work.over.signal.aborted) return null;
  if (mode === "keep") {
    work.record.keep = (await gateHead(gate)) !== plan.startSha;
    return ended(work, { outcome: "cancelled", failure: null }, { head: null, changed: false });
  }
  work.outbox.add({ type: "stage", stage: "pushing" });
  const beside = `${work.job.branch}-run-${work.job.number}`;
  const verdict = await pusher.finish(beside);
  // Not before: the last push may just be on its way through.
  const { changed } = pusher;
  if (work.over.signal.aborted) return null;
  work.record.keep = !verdict.ok && verdict.kept === null && changed;
  const head = verdict.ok ? verdict.head : null;
  await keepSessionOf(work, begun, story);
  const problem = agentProblem(work, story, begun.harness);
  return ended(
    work,
    judge(work, story, problem, verdict),
    { head, changed },
    quota(work, plan, problem),
  );
}

/** That an agent's session cannot be kept never fails its run. */
async function keepSessionOf(work: Work, { plan, harness }: Begun, story: Story) {
  // One that was ended says nothing about its session.
  const byItself = story.agent !== null && story.agent.cut === null && !work.cancel.signal.aborted;
  const problem = byItself && !work.record.cut ? story.agentProblem : null;
  try {
    await settleSession(work, plan, harness, problem);
  } catch (error) {
    work.log.warn({ err: error, run: work.job.run }, "the agent's session could not be kept");
  }
}

/** What following a container needs of its agent's harness. */
function watchedOf(work: Work, { gate, harness, plan }: Begun) {
  const { hub, tells, attempt, hopeless } = work;
  const { model, memory, reader, meter } = harness;
  const doors = { gate, hub, tells, model, memory };
  const lostMemory = () => {
    Object.assign(plan.launch, { resume: null, spentBefore: nothingSpent });
    writeRecord(work.folder, Object.assign(work.record, { plan }));
    reader.forget();
  };
  return { doors, reader, meter, attempt, lostMemory, hopeless: hopeless.signal };
}

/**
 * Why the agent's work does not count. What the model's service said last is known better outside: the
 * agents word it each in their own way.
 */
function agentProblem({ record }: Work, story: Story, { model }: Harness): Cut | null {
  if (record.cut) return record.cut;
  const problem = story.agentProblem;
  if (!problem) return null;
  const last = model?.failing?.cut;
  if (last && last.code !== "agent_failed")
    return { ...last, text: `${last.text}\n${problem.text}` };
  // The service answered well to the last: then it is not what its words sound like.
  const answered = model !== null && model.answered > 0;
  const code = answered && ofServices.includes(problem.code) ? "agent_failed" : problem.code;
  return { ...problem, code, resetAt: null };
}

const ofServices: FailureCode[] = [
  "credential_refused",
  "model_overloaded",
  "model_unknown",
  "quota_reached",
];

function quota(work: Work, plan: Plan, problem: Cut | null): Settle["quota"] {
  return problem?.code === "quota_reached" ? quotaOf(work.config, plan, problem.resetAt) : null;
}

/** The daemon ends the agent; why is on record before it is done. */
function cutShort(work: Work, cut: Cut) {
  const { record, folder, hopeless, secrets, log, job } = work;
  if (record.cut) return;
  const text = redact(cut.text, secrets).slice(0, failureDetailMax);
  writeRecord(folder, Object.assign(record, { cut: { ...cut, text } }));
  log.warn({ run: job.run, code: cut.code }, "the agent is ended: its model gives no more");
  hopeless.abort();
}

function lastTold(outbox: Outbox): number {
  return outbox.events.reduce((last, event) => (event.type === "told" ? event.id : last), 0);
}

async function begin(work: Work): Promise<Begun> {
  const { config, docker, job, outbox, folder } = work;
  refuseForeign(config, job.repository);
  outbox.add({ type: "stage", stage: "preparing" });
  const ahead = startAhead(work);
  let handed = false;
  try {
    const fetched = await fetchInTurn(work);
    refuseDefaultBranch(job, fetched);
    const plan = makePlan(config, job, fetched);
    chooseSession(work, plan);
    await needRoom(work);
    plan.image = await builtImage(work, plan, fetched);
    await needImage(docker, plan.image);
    const path = join(folder, "gate.git");
    const [gate, drift] = await Promise.all([
      makeGate(path, fetched.folder, job.branch, plan.startSha),
      job.base.branch === fetched.defaultBranch ? readDrift(fetched, work.cancel.signal) : null,
    ]);
    if (drift) {
      outbox.add({ type: "base", ...drift });
      plan.finding = `\n\n## The base has moved on\n\n${driftText(drift, job.base.branch)}\n`;
    }
    const early = await ahead;
    if (work.cancel.signal.aborted) throw new Cancelled();
    const harness = await harnessFor(work, plan, false);
    const { agent, image, cpus, memoryBytes, minutes } = plan;
    outbox.add({
      type: "started",
      agent,
      image,
      cpus,
      memoryBytes,
      minutes,
      steers: steers(plan),
    });
    const fits = early && sameBox(early.plan, plan);
    if (early && !fits) await removeBox(docker, job, null);
    recordBox(work, plan);
    const { started, carrier } = fits ? early : await startWithTunnel(work, plan);
    started.hand(JSON.stringify(taskOf(work, plan, harness)));
    handed = true;
    return { container: started.container, carrier, gate, plan, harness };
  } finally {
    // Without its task it ends by itself. Waited for: made after the clean-up it would be left behind.
    if (!handed) (await ahead)?.started.abandon();
  }
}

function harnessFor(work: Work, plan: Plan, again: boolean): Promise<Harness> {
  if (work.record.cut) work.hopeless.abort();
  const on = { attempt: work.attempt, cut: (cut: Cut) => cutShort(work, cut) };
  return makeHarness(work, plan, on, again);
}

/**
 * The container takes as long to start as the mirror to be fetched, so it is begun as the last fetch
 * would have it. Should the plan turn out another, it is removed again, having done nothing.
 */
async function startAhead(work: Work): Promise<(Running & { plan: Plan }) | null> {
  const { config, docker, job, log } = work;
  try {
    const known = await readMirror(config.data, job.repository);
    if (!known) return null;
    const plan = makePlan(config, job, { ...known, branchSha: null });
    if (plan.build) {
      const wanted = wantedImage(work, plan.build, known);
      const built = await work.builds.known(wanted);
      if (!built) return null;
      plan.image = built;
    }
    await needImage(docker, plan.image);
    recordBox(work, plan);
    return { plan, ...(await startWithTunnel(work, plan)) };
  } catch (error) {
    // The ordinary way meets the same trouble, and says it.
    log.debug({ err: error, run: job.run }, "no container ahead of the plan");
    return null;
  }
}

type Running = { started: Started; carrier: Promise<Carrier | null> };

/** The tunnel's process starts while the task is still being put together. */
async function startWithTunnel(work: Work, plan: Plan): Promise<Running> {
  const started = await startContainer(work.docker, containerSpec(boxOf(work, plan)));
  return { started, carrier: openTunnel(started.container).catch(() => null) };
}

/** Its name is known before it is made: killed in between, the next daemon still finds it. */
function recordBox({ job, folder, record }: Work, plan: Plan) {
  writeRecord(
    folder,
    Object.assign(record, { plan, containerId: volumeName(job.run, job.attempt) }),
  );
}

/** With less than this free nothing is begun: what is under way needs it. */
async function needRoom({ config, docker }: Work) {
  for (const folder of [config.data, await engineFolder(docker)]) {
    // An engine elsewhere: its disk is not ours to look at.
    const found = await statfs(folder).catch(() => null);
    if (!found || found.bavail * found.bsize >= reserveBytes) continue;
    const left = Math.round((found.bavail * found.bsize) / 2 ** 20);
    throw new PlanError(
      "disk_full",
      `${folder} has ${left} MB free; a run begins with at least ${reserveBytes / 2 ** 20} MB.`,
    );
  }
}

function wantedImage(
  { job }: Work,
  dockerfile: string,
  { folder, defaultSha }: Pick<Fetched, "folder" | "defaultSha">,
) {
  const path = posix.normalize(dockerfile);
  return { repository: job.repository, mirror: folder, sha: defaultSha, dockerfile: path };
}

/** The plan's image, built from the default branch where trimo.yml says so. */
async function builtImage(work: Work, plan: Plan, fetched: Fetched): Promise<string> {
  if (!plan.build) return plan.image;
  const { builds, outbox, over, cancel } = work;
  const say = (text: string) => outbox.add({ type: "notice", text });
  const signal = AbortSignal.any([over.signal, cancel.signal]);
  try {
    return await builds.image(wantedImage(work, plan.build, fetched), say, signal);
  } catch (error) {
    if (cancel.signal.aborted) throw new Cancelled();
    if (error instanceof BuildRefused) throw new PlanError("image_refused", error.message);
    if (error instanceof BuildError || error instanceof ContextError)
      throw new PlanError("image_build_failed", error.message);
    throw error;
  }
}

async function needImage(docker: Docker, image: string) {
  const labels = await imageLabels(docker, image);
  if (!labels) throw new PlanError("image_missing", `${image} is not on this machine.`);
  if (labels[contractLabel] !== contractVersion)
    throw new PlanError(
      "image_no_contract",
      `${image} carries no label ${contractLabel}=${contractVersion}.`,
    );
}

/** Whether Docker would be asked for the same. */
function sameBox(a: Plan, b: Plan): boolean {
  return (
    a.image === b.image && a.cpus === b.cpus && a.memoryBytes === b.memoryBytes && a.pids === b.pids
  );
}

/** The mirror, up to date; GitHub may be away for a moment. */
async function fetchInTurn(work: Work): Promise<Fetched> {
  const { config, job, clock, over } = work;
  for (let tries = 1; ; tries++) {
    try {
      const token = await work.token();
      return await fetchMirror(
        config.data,
        config.github,
        job.repository,
        job.branch,
        token,
        AbortSignal.any([over.signal, work.cancel.signal]),
      );
    } catch (error) {
      if (work.cancel.signal.aborted) throw new Cancelled();
      const again = error instanceof GitError && tries < fetchTriesMax && !over.signal.aborted;
      if (!again) throw error;
      const pause = backoffMs(tries, 500, 5_000, Math.random());
      await clock.sleep(pause, AbortSignal.any([over.signal, work.cancel.signal]));
    }
  }
}

/** The container an earlier daemon had started; null when it had not come that far. */
async function reattach(work: Work): Promise<Begun | null> {
  const { record, folder, job, docker, outbox } = work;
  if (!record.plan || !record.containerId) return null;
  const container = docker.getContainer(record.containerId);
  const gate = openGate(join(folder, "gate.git"), job.branch);
  const harness = await harnessFor(work, record.plan, true);
  const begun = { container, carrier: null, gate, plan: record.plan, harness };
  if (record.died) return begun;
  // Started ahead of its plan and killed with it: there is no gate yet, so nothing has begun.
  if (!existsSync(join(gate.folder, "HEAD"))) {
    await removeBox(docker, job, record.containerId);
    return null;
  }
  const state = await stateOf(container);
  // It has told something, so it was there: if it is gone now, its volume is to be rescued.
  const wasThere = outbox.mark.journal > 0;
  if (!state?.started && !wasThere) {
    await removeBox(docker, job, record.containerId);
    return null;
  }
  outbox.add({ type: "notice", text: "the daemon was restarted and goes on with this run" });
  return begun;
}

/**
 * The work of a container that died lies on its volume: another one commits and pushes it. That it
 * died is on record before anything is removed, so a daemon killed here begins here again.
 */
async function rescue(work: Work, story: Story, rest: Begun & { pusher: Pusher }) {
  const { docker, job, outbox, log, folder, record } = work;
  const rescues = record.died?.rescues ?? 0;
  if (rescues >= rescuesMax) {
    log.error({ run: job.run }, "the dead container's work could not be rescued");
    return;
  }
  const { outOfMemory, tail } = story;
  writeRecord(folder, Object.assign(record, { died: { outOfMemory, tail, rescues: rescues + 1 } }));
  await removeContainer(rest.container);
  const task: Task = { ...taskOf(work, rest.plan, rest.harness), mode: "rescue", verify: [] };
  const { container, hand } = await startContainer(docker, containerSpec(boxOf(work, rest.plan)));
  hand(JSON.stringify(task));
  // Its journal and output are new; the transcript of the dead one stays. A cancel that was asked of
  // the run must not stop what saves its work.
  outbox.mark = { journal: 0, output: 0, transcript: transcriptBytes(folder) };
  const fresh = {
    cancel: new AbortController(),
    hopeless: new AbortController().signal,
    reader: blankReader(rest.plan),
  };
  const watched = { ...work, ...rest, ...watchedOf(work, rest), ...fresh };
  const saved = await follow({ ...watched, container, carrier: null });
  if (saved.died && !work.over.signal.aborted)
    throw new Error("the rescue's container died as well");
}

function boxOf({ job, identity }: Work, plan: Plan): Box {
  return { ...plan, run: job.run, attempt: job.attempt, daemon: identity };
}

function transcriptBytes(folder: string): number {
  const path = join(folder, "transcript.log");
  return existsSync(path) ? statSync(path).size : 0;
}

class Cancelled extends Error {}

function taskOf({ job, config }: Work, plan: Plan, { task }: Harness): Task {
  const host = new URL(config.github).host;
  return {
    mode: "run",
    branch: job.branch,
    base: job.base.sha,
    env: {
      TRIMO_RUN: job.run,
      TRIMO_PIPELINE: job.pipeline,
      TRIMO_BRANCH: job.branch,
      TRIMO_BASE: job.base.sha,
      TRIMO_ISSUE: job.issue === null ? "" : String(job.issue),
      TRIMO_PROMPT_FILE: "/run/trimo/prompt",
    },
    ...task,
    verify: plan.verify,
    author: { name: `${plan.agent} (Trimo)`, email: `trimo@users.noreply.${host}` },
    leftoverMessage: `Keep what run ${job.number} left uncommitted\n\nTrimo-Run: ${job.run}`,
    stoppedMessage: `Keep what run ${job.number} had done when it was stopped\n\nTrimo-Run: ${job.run}`,
    timeMs: Math.round(plan.minutes * 60_000),
    prebootMs: plan.prebootSeconds * 1_000,
    outputBytesMax,
    diskBytes: plan.diskBytes,
    reserveBytes,
  };
}

/** What the app and GitHub have been told already, by this daemon or the one before. */
function knownHeads({ outbox }: Work, plan: Plan) {
  let told = plan.startSha;
  let onGitHub = plan.branchSha;
  for (const event of outbox.events) {
    if (event.type === "commit") told = event.sha;
    if (event.type === "pushed") onGitHub = event.sha;
  }
  return { told, onGitHub, start: plan.startSha };
}

type Ending = Pick<Settle, "outcome" | "failure">;

function judge(work: Work, story: Story, problem: Cut | null, verdict: Verdict): Ending {
  const fail = (code: Failure["code"], detail: string): Ending => ({
    outcome: "failed",
    failure: failure(work, code, detail),
  });
  if (!verdict.ok) {
    const kept = verdict.kept
      ? `The run's commits are on the branch ${verdict.kept}.`
      : `The run's commits are kept on the machine, in kept/${work.job.run}-${work.job.attempt}.git of the daemon's data folder.`;
    const code =
      verdict.why === "moved"
        ? "branch_moved"
        : verdict.why === "refused"
          ? "push_refused"
          : "repository_unreachable";
    return fail(code, `${verdict.detail}\n${kept}`.trim());
  }
  if (work.cancel.signal.aborted) return { outcome: "cancelled", failure: null };
  if (story.failed) return fail(story.failed.code, story.failed.detail);
  const words = lastWords(work, story);
  const starved = story.agent?.cut === "memory" || (story.outOfMemory && story.died);
  if (starved) return fail("out_of_memory", words);
  if (story.died) return fail(deathCode(story.tail), words);
  if (story.agent?.cut === "time")
    return { outcome: "timed_out", failure: failure(work, "time_limit", words) };
  if (story.agent?.cut === "output") return fail("output_limit", words);
  if (story.agent?.cut === "disk") return fail("disk_limit", words);
  if (story.agent?.cut === "pids") return fail("pids_limit", words);
  if (work.record.cut) return fail(work.record.cut.code, work.record.cut.text);
  const asked = work.outbox.events.findLast((event) => event.type === "ask");
  if (asked) return fail("asked_question", asked.text);
  if (problem) return fail(problem.code, `${words}\n${problem.text}`.trim());
  const red = story.receipts.find((receipt) => receipt.exit !== 0);
  if (red) return fail("verify_failed", `${red.command} ended with exit ${red.exit}`);
  return { outcome: "succeeded", failure: null };
}

const wordsShown = 20;
/** A tail as long as this was cut out of more. */
const tailMin = 3_000;
/** The end of what it printed: a script's own words explain most, of the others it is for programs. */
function lastWords({ record }: Work, { tail }: Story): string {
  if (record.plan?.settings.adapter === "script") return tail;
  // The first line may be the end of a long one.
  const lines = tail.length < tailMin ? tail.split("\n") : tail.split("\n").slice(1);
  return lines
    .filter((line) => !/^\s*[{[]/.test(line))
    .slice(-wordsShown)
    .join("\n");
}

/** An image that cannot even start ends at once, with the words of Docker's own init. */
function deathCode(tail: string): Failure["code"] {
  if (/exec format error/i.test(tail)) return "image_platform";
  if (/exec \/opt\/trimo\S* failed/i.test(tail)) return "image_broken";
  return "container_died";
}

/** Why a run could not begin, as one of the closed set. */
function refusalOf(work: Work, error: unknown): Ending {
  if (error instanceof Cancelled) return { outcome: "cancelled", failure: null };
  if (error instanceof PlanError) {
    const outcome = error.code === "repository_refused" ? "declined" : "failed";
    return { outcome, failure: failure(work, error.code, error.message) };
  }
  work.log.error({ err: error, run: work.job.run }, "the run could not begin");
  const text = error instanceof Error ? error.message : String(error);
  return { outcome: "failed", failure: failure(work, codeOf(error), text) };
}

function codeOf(error: unknown): Failure["code"] {
  if (error instanceof GitError)
    return error.message.includes(trimoYmlPath) ? "config_invalid" : "repository_unreachable";
  if (error instanceof ServerError) return "daemon_failed";
  if (error instanceof DockerError) {
    if (error.kind === "unavailable") return "docker_unavailable";
    if (error.kind === "disk_full") return "disk_full";
    if (error.kind === "image_missing") return "image_missing";
  }
  if ((error as { code?: string }).code === "ENOSPC") return "disk_full";
  return "daemon_failed";
}

function failure(work: Work, code: Failure["code"], detail: string): Failure {
  return { code, detail: cleanEnd(redact(detail, work.secrets), failureDetailMax) };
}

function ended(
  { job, outbox }: Work,
  ending: Ending,
  branch: { head: string | null; changed: boolean },
  quota: Settle["quota"] = null,
): Settle {
  if (ending.outcome !== "declined") outbox.add({ type: "stage", stage: "cleaning" });
  outbox.close();
  return { attempt: job.attempt, lastSeq: outbox.lastSeq, ...ending, ...branch, quota };
}

/** From a known end to nothing left: each step may be done twice. */
async function finish(work: Work, mode: Mode, end: Settle) {
  const { docker, job, folder, record, over, log } = work;
  writeRecord(folder, Object.assign(record, { end }));
  await removeBox(docker, job, record.containerId);
  if (mode !== "keep") await tell(work, end);
  if (over.signal.aborted) return;
  if (record.keep) await keepGate(work.config.data, folder, job);
  await forget(work.config.data, folder, job);
  if (mode === "keep") log.warn({ run: job.run, kept: record.keep }, "another run goes on instead");
}

/** Every event, and then the end, until the app has them. */
async function tell({ job, outbox, server, clock, over, log }: Work, end: Settle) {
  await outbox.delivered(over.signal);
  const until = clock.now() + settleMsMax;
  for (let tries = 0; !over.signal.aborted; tries++) {
    try {
      await server.settle(job.run, end, over.signal);
      log.info({ run: job.run, outcome: end.outcome, failure: end.failure?.code }, "settled");
      break;
    } catch (error) {
      if (over.signal.aborted) return;
      if (!(error instanceof ServerError) || !error.passing || clock.now() > until) {
        log.error({ err: error, run: job.run }, "the app did not take the run's end");
        break;
      }
      await clock.sleep(backoffMs(tries, 200, 10_000, Math.random()), over.signal);
    }
  }
}

/** The only copy of commits that GitHub has not taken. */
async function keepGate(data: string, folder: string, job: Job) {
  const gate = join(folder, "gate.git");
  if (!existsSync(gate)) return;
  await mkdir(join(data, "kept"), { recursive: true, mode: 0o700 });
  await rename(gate, join(data, "kept", `${job.run}-${job.attempt}.git`));
}

/** The container and its volume, whether they were made or not. */
export async function removeBox(docker: Docker, job: Job, containerId: string | null) {
  const name = volumeName(job.run, job.attempt);
  await removeContainer(docker.getContainer(containerId ?? name));
  await removeVolume(docker, name);
}

/** Keeps the transcript and removes the run's folder. */
export async function forget(data: string, folder: string, job: Job) {
  const transcript = join(folder, "transcript.log");
  if (existsSync(transcript)) {
    await mkdir(join(data, "transcripts"), { recursive: true, mode: 0o700 });
    await rename(transcript, join(data, "transcripts", `${job.run}-${job.attempt}.log`));
  }
  await rm(folder, { recursive: true, force: true });
}

/** A token of this attempt, asked for anew before it ends; every one is a secret to be masked. */
function tokenKeeper(
  { server, clock }: Parts,
  job: Job,
  purpose: TokenPurpose,
  secrets: Set<string>,
  signal: AbortSignal,
): () => Promise<string> {
  let known: { token: string; expiresAt: number } | null = null;
  return async () => {
    for (let tries = 0; ; tries++) {
      if (known && known.expiresAt - clock.now() > 5 * 60_000) return known.token;
      try {
        known = await server.token(job.run, job.attempt, purpose, signal);
        secrets.add(known.token);
        secrets.add(Buffer.from(`x-access-token:${known.token}`).toString("base64"));
      } catch (error) {
        const again =
          error instanceof ServerError && error.passing && tries < 10 && !signal.aborted;
        if (!again) throw error;
        await clock.sleep(backoffMs(tries, 200, 5_000, Math.random()), signal);
      }
    }
  };
}
