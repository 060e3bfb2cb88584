import { sql } from "drizzle-orm";
import { isServed } from "../protocol/pattern.ts";
import type { Job } from "../protocol/wire.ts";
import type { Tx } from "../state/database.ts";
import { grant, grantedBefore, leaseMs, renew } from "../state/lease.ts";
import { type Pause, pauseOf, pausesNow } from "../state/pause.ts";
import { findPipeline, type Pipeline } from "../state/pipeline.ts";
import { findRun, move, type Run, wantPlaces } from "../state/run.ts";
import { daemons, pipelines, runs, workspaces } from "../state/schema.ts";

export type Daemon = typeof daemons.$inferSelect;

/** Queued runs looked at together: those a daemon does not serve are passed over. */
const lookedAtMax = 500;

/**
 * The next run for this daemon, as a job with its attempt and lease; null: nothing for it now.
 * Priority, then age; runs of one pipeline strictly one after another; only when the branch is made.
 */
export async function claimNext(
  tx: Tx,
  at: number,
  daemon: Daemon,
  claimKey: string,
): Promise<Job | null> {
  const before = await grantedBefore(tx, daemon.id, claimKey);
  if (before) {
    const run = await findRun(tx, before.runId);
    const pipeline = run && (await findPipeline(tx, run.pipelineId));
    if (!run || !pipeline || run.state !== "claimed") return null;
    await renew(tx, at, run.id);
    return toJob(run, pipeline);
  }
  const match = await firstThatSuits(tx, at, daemon);
  if (!match) return null;
  const claimed = await move(
    tx,
    at,
    match.run,
    "claimed",
    {
      attempt: match.run.attempt + 1,
      daemon: daemon.name,
      agent: match.agent,
      lastSeq: 0,
      stage: null,
      headSha: match.pipeline.headSha,
    },
    { type: "claimed", daemon: daemon.name, attempt: match.run.attempt + 1 },
  );
  if (!claimed) return null;
  const lease = { runId: claimed.id, attempt: claimed.attempt, daemonId: daemon.id, claimKey };
  await grant(tx, at, lease);
  await wantPlaces(tx, at, claimed.workspace);
  return toJob(claimed, match.pipeline);
}

/** The oldest of the highest priority that may start now and that this daemon serves. */
async function firstThatSuits(tx: Tx, at: number, daemon: Daemon) {
  const paused = await pausesNow(tx, at);
  const machines = await tx.select().from(daemons);
  for (let from = 0; ; from += lookedAtMax) {
    const candidates = await claimable(tx, from);
    for (const match of candidates) {
      const agent = agentNow(match.run, machines, paused, at);
      const run = { ...match.run, agent };
      if (!suits(run, daemon) || pauseOf(paused, daemon, agent)) continue;
      if (!(await otherRemembers(tx, at, run, daemon, machines, paused)))
        return { ...match, agent };
    }
    if (candidates.length < lookedAtMax) return null;
  }
}

/**
 * Who would do a run now: its own agent, or the first of its list behind that which some machine can
 * begin with, when the service of its own takes no more for a while.
 */
export function agentNow(
  run: Pick<Run, "repository" | "agent" | "declinedBy" | "fallback">,
  machines: Daemon[],
  paused: Pause[],
  at: number,
): string | null {
  const { agent, fallback } = run;
  if (agent === null || fallback.length === 0) return agent;
  const own = Math.max(0, fallback.indexOf(agent));
  const inTurn = [agent, ...fallback.slice(own), ...fallback.slice(0, own)];
  const ready = inTurn.find((name) =>
    machines.some(
      (machine) =>
        isHere(machine, at) &&
        suits({ ...run, agent: name }, machine) &&
        pauseOf(paused, machine, name) === null,
    ),
  );
  return ready ?? agent;
}

/** A machine not heard of for this long is away: it renews far more often. */
export const awayMs = 60_000;

/** Heard of lately, and with room at all. */
export function isHere(daemon: Daemon, now: number): boolean {
  return daemon.slots > 0 && daemon.seenAt !== null && now - daemon.seenAt <= awayMs;
}

/** For how long a run is left to the machine that had its pipeline last, and may hold its session. */
const rememberedMs = 5_000;

/** Whether another machine is there for it, with room, that had the pipeline's last run. */
async function otherRemembers(
  tx: Tx,
  at: number,
  run: Run,
  daemon: Daemon,
  machines: Daemon[],
  paused: Pause[],
) {
  if (run.number === 1 || run.fresh) return false;
  const [last] = await tx
    .select()
    .from(runs)
    .where(
      sql`${runs.pipelineId} = ${run.pipelineId} and ${runs.number} < ${run.number} and ${runs.daemon} is not null`,
    )
    .orderBy(sql`${runs.number} desc`)
    .limit(1);
  if (!last || last.daemon === daemon.name) return false;
  if (at - Math.max(run.createdAt, last.endedAt ?? 0) > rememberedMs) return false;
  const other = machines.find(({ name }) => name === last.daemon);
  if (!other || !suits(run, other) || pauseOf(paused, other, run.agent)) return false;
  if (!isHere(other, at)) return false;
  const [busy] = await tx
    .select({ n: sql<number>`count(*)` })
    .from(runs)
    .where(sql`${runs.daemon} = ${other.name} and ${runs.state} in ('claimed', 'running')`);
  return (busy?.n ?? 0) < other.slots;
}

async function claimable(tx: Tx, from: number) {
  return await tx
    .select({ run: runs, pipeline: pipelines })
    .from(runs)
    .innerJoin(pipelines, sql`${pipelines.id} = ${runs.pipelineId}`)
    .where(
      sql`${runs.state} = 'queued' and ${pipelines.state} = 'open' and ${pipelines.openingSha} is not null
        and ${pipelines.held} = 0 and ${runs.composed} is not null
        and not exists (select 1 from ${workspaces} where ${workspaces.id} = ${runs.workspace} and ${workspaces.state} <> 'active')
        and not exists (select 1 from runs r2 where r2.pipeline_id = ${runs.pipelineId}
          and (r2.state in ('claimed', 'running') or (r2.state = 'queued' and r2.number < ${runs.number})))`,
    )
    .orderBy(sql`${runs.priority} desc, ${runs.createdAt}, runs.rowid`)
    .limit(lookedAtMax)
    .offset(from);
}

/** The agents of the machines that serve a repository; empty where no machine does. */
export async function agentsFor(tx: Pick<Tx, "select">, repository: string): Promise<string[]> {
  const rows = await tx.select().from(daemons);
  const serving = rows.filter((daemon) => serves(daemon, repository));
  return [...new Set(serving.flatMap((daemon) => daemon.agents))].sort();
}

/** Whether this daemon may and can execute the run. */
export function suits(
  run: Pick<Run, "repository" | "agent" | "declinedBy">,
  daemon: Daemon,
): boolean {
  if (!serves(daemon, run.repository)) return false;
  if (run.agent && !daemon.agents.includes(run.agent)) return false;
  return !run.declinedBy.split(",").includes(daemon.id);
}

function serves(daemon: Daemon, repository: string): boolean {
  const account = repository.split("/")[0]?.toLowerCase();
  if (daemon.account && daemon.account.toLowerCase() !== account) return false;
  return isServed(repository, daemon.repositories);
}

function toJob(run: Run, pipeline: Pipeline): Job {
  if (!pipeline.baseSha) throw new Error(`pipeline ${pipeline.id} has no base commit yet`);
  return {
    run: run.id,
    attempt: run.attempt,
    leaseMs,
    number: run.number,
    pipeline: pipeline.id,
    repository: run.repository,
    issue: pipeline.issue,
    title: pipeline.title.slice(0, 1_000),
    branch: pipeline.branch,
    base: { branch: pipeline.baseBranch, sha: pipeline.baseSha },
    agent: run.agent,
    image: run.askedImage,
    prompt: run.composed ?? run.prompt,
    handover: run.handover,
    fresh: run.fresh,
  };
}
