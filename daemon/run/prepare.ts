import { posix } from "node:path";
import { crashAt } from "../../app/protocol/crash.ts";
import { failureDetailMax } from "../../app/protocol/failure.ts";
import type { Job } from "../../app/protocol/job.ts";
import { daemonLabel, volumeName } from "../docker/container-spec.ts";
import { type Carrier, type Engine, imageLabels, type Started } from "../docker/engine.ts";
import type { LimitHit } from "../gateway/model/model.ts";
import { openTunnel } from "../gateway/tunnel.ts";
import { contractLabel, contractVersion } from "../images/base.ts";
import { BuildError } from "../images/build.ts";
import { BuildRefused, type Wanted } from "../images/builds.ts";
import { ContextError } from "../images/context.ts";
import { redact } from "../redact.ts";
import type { Drift, Fetched, Gate } from "../repository/repositories.ts";
import { type AgentSetup, acceptsMessages, chooseSession, makeAgentSetup } from "./agent-setup.ts";
import type { Attempt, Parts } from "./attempt.ts";
import { removeContainerAndVolume } from "./clean-up.ts";
import { fetchMirror } from "./fetch.ts";
import { makePlan, PlanError, refuseDefaultBranch, refuseForeign } from "./plan.ts";
import { Cancelled } from "./refusal.ts";
import { gateOf, hasGate, type Plan } from "./run-record.ts";
import { containerRequestOf, reserveBytes, sameContainer, taskOf } from "./task.ts";

// From a job to a container at work: token, mirror, plan, image, gate, agent, container, task.

/** A run whose container is at work, or has been. */
export type Prepared = {
  container: string;
  /** The tunnel's process where it was started with the container; null: there is none yet. */
  carrier: Promise<Carrier | null> | null;
  gate: Gate;
  plan: Plan;
  agent: AgentSetup;
};

/**
 * Begins a run: everything up to a container that has its task.
 *
 * @throws PlanError, Cancelled, GitError, DockerError or ServerError; nothing runs then.
 */
export async function prepare(parts: Parts, attempt: Attempt): Promise<Prepared> {
  const { config, engine, repositories } = parts;
  const { job, outbox, signals } = attempt;
  refuseForeign(config, job.repository);
  outbox.add({ type: "stage", stage: "preparing" });
  const ahead = startAhead(parts, attempt);
  let handed = false;
  try {
    const fetched = await fetchMirror(parts, attempt);
    crashAt("daemon: the mirror is fetched");
    refuseDefaultBranch(job, fetched);
    const drafted = makePlan(config, job, fetched);
    const launch = chooseSession({ config, job, outbox }, drafted);
    await needRoom(parts);
    const image = await builtImage(parts, attempt, drafted, fetched);
    await needImage(engine, image);
    const onDefault = job.base.branch === fetched.defaultBranch;
    const [gate, drift] = await Promise.all([
      repositories.makeGate(gateOf(attempt), fetched.folder, drafted.startSha),
      onDefault ? repositories.drift(fetched, signals.cancel) : null,
    ]);
    crashAt("daemon: the gate is made");
    if (drift) outbox.add({ type: "base", ...drift });
    const plan = { ...drafted, launch, image, driftNote: driftNote(drift, job.base.branch) };
    const early = await ahead;
    if (signals.cancel.aborted) throw new Cancelled();
    const agent = await agentSetupFor(parts, attempt, plan, false);
    outbox.add(startedFact(plan));
    crashAt("daemon: the start is told");
    const fits = early && sameContainer(early.plan, plan);
    if (early && !fits) await removeContainerAndVolume(engine, job, null);
    recordContainer(attempt, plan);
    const { started, carrier } = fits ? early : await startWithTunnel(parts, job, plan);
    const forge = new URL(config.github).host;
    started.hand(JSON.stringify(taskOf(job, plan, agent.task, forge)));
    handed = true;
    crashAt("daemon: the task is handed");
    return { container: started.container, carrier, gate, plan, agent };
  } finally {
    // Without its task it ends by itself. Waited for: made after the clean-up it would be left behind.
    if (!handed) (await ahead)?.started.abandon();
  }
}

/** Goes on with the container an earlier daemon had started; null when it had not come that far. */
export async function reattach(parts: Parts, attempt: Attempt): Promise<Prepared | null> {
  const { engine, disk, repositories } = parts;
  const { record, job, outbox } = attempt;
  const { plan, containerId, died, pushing } = record.current;
  if (!plan || !containerId) return null;
  const gate = repositories.openGate(gateOf(attempt));
  const agent = await agentSetupFor(parts, attempt, plan, true);
  const prepared = { container: containerId, carrier: null, gate, plan, agent };
  if (died || pushing) return prepared;
  // Started ahead of its plan and killed with it: there is no gate yet, so nothing has begun.
  const finished = hasGate(disk, attempt.folder);
  const state = finished ? await engine.stateOf(containerId) : null;
  // It was there, by what it told or by its volume: if it is gone now, its work is to be rescued.
  const told = finished && outbox.mark.journal > 0;
  const wasThere = told || (finished && state === null && (await hasVolume(parts, job)));
  if (!state?.started && !wasThere) {
    await removeContainerAndVolume(engine, job, containerId);
    return null;
  }
  outbox.add({ type: "notice", text: "the daemon was restarted and goes on with this run" });
  return prepared;
}

/** Whether the engine has an attempt's volume. */
export async function hasVolume(
  { engine, identity }: Pick<Parts, "engine" | "identity">,
  { run, attempt }: Pick<Job, "run" | "attempt">,
): Promise<boolean> {
  const volumes = await engine.ownedVolumes(`${daemonLabel}=${identity}`);
  return volumes.some(({ name }) => name === volumeName(run, attempt));
}

/** `again`: for a container that is under way with what it was given. */
async function agentSetupFor(
  { config, clock, pool, log }: Parts,
  { job, folder, outbox, secrets, record, signals, onConnection }: Attempt,
  plan: Plan,
  again: boolean,
): Promise<AgentSetup> {
  if (record.current.limitHit) signals.hitLimit();
  // Why is on record before the agent is ended.
  const limitHit = (limit: LimitHit) => {
    if (record.current.limitHit) return;
    const text = redact(limit.text, secrets).slice(0, failureDetailMax);
    record.update({ limitHit: { ...limit, text } });
    log.warn({ run: job.run, code: limit.code }, "the agent is ended: its model gives no more");
    signals.hitLimit();
  };
  const around = { config, job, folder, outbox, secrets, clock, pool };
  return await makeAgentSetup(around, plan, { connection: onConnection, limitHit }, again);
}

/**
 * The container takes as long to start as the mirror to be fetched, so it is begun as the last fetch
 * would have it. Should the plan turn out another, it is removed again, having done nothing.
 */
async function startAhead(
  parts: Parts,
  attempt: Attempt,
): Promise<(Running & { plan: Plan }) | null> {
  const { config, engine, repositories, builds, log } = parts;
  const { job } = attempt;
  try {
    const known = await repositories.known(job.repository);
    if (!known) return null;
    const drafted = makePlan(config, job, { ...known, branchSha: null });
    const image = drafted.build
      ? await builds.known(wantedImage(job.repository, drafted.build, known))
      : drafted.image;
    if (!image) return null;
    const plan = { ...drafted, image };
    await needImage(engine, image);
    recordContainer(attempt, plan);
    return { plan, ...(await startWithTunnel(parts, job, plan)) };
  } catch (error) {
    // The ordinary way meets the same trouble, and says it.
    log.debug({ err: error, run: job.run }, "no container ahead of the plan");
    return null;
  }
}

type Running = { started: Started; carrier: Promise<Carrier | null> };

/** The tunnel's process starts while the task is still being put together. */
async function startWithTunnel(
  { engine, identity }: Parts,
  job: Job,
  plan: Plan,
): Promise<Running> {
  const started = await engine.startContainer(containerRequestOf(job, plan, identity));
  crashAt("daemon: the container is started");
  return { started, carrier: openTunnel(engine, started.container).catch(() => null) };
}

/** Its name is known before it is made: killed in between, the next daemon still finds it. */
function recordContainer({ job, record }: Attempt, plan: Plan) {
  record.update({ plan, containerId: volumeName(job.run, job.attempt) });
  crashAt("daemon: the container is on record");
}

function startedFact(plan: Plan) {
  const { agent, image, cpus, memoryBytes, minutes } = plan;
  const messages = acceptsMessages(plan);
  return {
    type: "started" as const,
    agent,
    image,
    cpus,
    memoryBytes,
    minutes,
    acceptsMessages: messages,
  };
}

function driftText({ behind, conflicts }: Drift, base: string): string {
  const more = `\`${base}\` has ${behind} commit${behind === 1 ? "" : "s"} that this branch has not. Nothing was merged.`;
  if (conflicts === null || conflicts.length === 0) return more;
  const list = conflicts.map((path) => `- ${path}`).join("\n");
  return `${more} Merging it would leave conflicts in:\n\n${list}`;
}

function driftNote(drift: Drift | null, base: string): string {
  return drift ? `\n\n## The base has moved on\n\n${driftText(drift, base)}\n` : "";
}

/** With less than this free nothing is begun: what is under way needs it. */
async function needRoom({ config, disk, engine }: Parts) {
  for (const folder of [config.data, await engine.folder()]) {
    const free = await disk.free(folder);
    if (free === null || free >= reserveBytes) continue;
    const left = Math.round(free / 2 ** 20);
    throw new PlanError(
      "disk_full",
      `${folder} has ${left} MB free; a run begins with at least ${reserveBytes / 2 ** 20} MB.`,
    );
  }
}

function wantedImage(
  repository: string,
  dockerfile: string,
  { folder, defaultSha }: Pick<Fetched, "folder" | "defaultSha">,
): Wanted {
  const path = posix.normalize(dockerfile);
  return { repository, mirror: folder, sha: defaultSha, dockerfile: path };
}

/** The plan's image, built from the default branch where trimo.yml says so. */
async function builtImage(
  { builds }: Parts,
  { job, outbox, signals }: Attempt,
  plan: Plan,
  fetched: Fetched,
): Promise<string> {
  if (!plan.build) return plan.image;
  const say = (text: string) => outbox.add({ type: "notice", text });
  const signal = AbortSignal.any([signals.over, signals.cancel]);
  try {
    return await builds.image(wantedImage(job.repository, plan.build, fetched), say, signal);
  } catch (error) {
    if (signals.cancel.aborted) throw new Cancelled();
    if (error instanceof BuildRefused) throw new PlanError("image_refused", error.message);
    if (error instanceof BuildError || error instanceof ContextError)
      throw new PlanError("image_build_failed", error.message);
    throw error;
  }
}

async function needImage(engine: Engine, image: string) {
  const labels = await imageLabels(engine, image);
  if (!labels) throw new PlanError("image_missing", `${image} is not on this machine.`);
  if (labels[contractLabel] !== contractVersion)
    throw new PlanError(
      "image_no_contract",
      `${image} carries no label ${contractLabel}=${contractVersion}.`,
    );
}
