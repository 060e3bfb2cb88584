import { desc, inArray, type SQL, sql } from "drizzle-orm";
import type { Job } from "../protocol/job.ts";
import { allDaemons, busyByDaemon, type Daemon, isHere } from "../state/daemon.ts";
import type { Reads, Tx } from "../state/database.ts";
import { claimedLeaseMs, grant, grantedBefore, renew } from "../state/lease.ts";
import { type Pause, pausesAt } from "../state/pause.ts";
import { findPipeline, type Pipeline } from "../state/pipeline.ts";
import { findRun, move, type Run, requestPositions } from "../state/run.ts";
import { pipelines, runs } from "../state/schema.ts";
import { agentNow, canBegin } from "./match.ts";
import { isClaimable, queueOrder } from "./queue-order.ts";

/** The most queued runs looked at together: those a daemon does not serve are passed over. */
const lookedAtMax = 500;
/** How long a run is left to the daemon that had its pipeline last, and may hold its session, in milliseconds. */
const rememberedMs = 5_000;

/**
 * The next run for this daemon, as a job with its attempt and lease; null: nothing for it now. Priority,
 * then age; runs of one pipeline strictly one after another; only once the branch is made. Asked again
 * with the same `claimKey`, the same job is the answer.
 */
export async function claimNext(tx: Tx, daemon: Daemon, claimKey: string): Promise<Job | null> {
  const before = await grantedBefore(tx, daemon.id, claimKey);
  if (before) return await claimedBefore(tx, before.runId);
  const match = await firstThatSuits(tx, daemon, tx.now);
  const run = match && (await findRun(tx, match.id));
  const pipeline = run && (await findPipeline(tx, run.pipelineId));
  if (!match || !run || !pipeline) return null;
  const attempt = run.attempt + 1;
  const claimed = await move(
    tx,
    run,
    "claimed",
    {
      attempt,
      daemon: daemon.name,
      agent: match.agent,
      lastSeq: 0,
      stage: null,
      headSha: pipeline.headSha,
    },
    { type: "claimed", daemon: daemon.name, attempt },
  );
  if (!claimed) return null;
  await grant(tx, { runId: claimed.id, attempt, daemonId: daemon.id, claimKey });
  await requestPositions(tx, claimed.workspace);
  return toJob(claimed, pipeline);
}

async function claimedBefore(tx: Tx, runId: string): Promise<Job | null> {
  const run = await findRun(tx, runId);
  const pipeline = run && (await findPipeline(tx, run.pipelineId));
  if (!run || !pipeline || run.state !== "claimed") return null;
  await renew(tx, run.id);
  return toJob(run, pipeline);
}

/**
 * Whether a claim of this daemon with this key would be answered with a job at `now` (milliseconds since
 * 1970). It only reads: most claims are in vain, and a transaction that writes holds up everybody.
 */
export async function canClaim(
  db: Reads,
  daemon: Daemon,
  { claimKey, now }: { claimKey: string; now: number },
): Promise<boolean> {
  if (await grantedBefore(db, daemon.id, claimKey)) return true;
  if (daemon.slots === 0) return false;
  return (await firstThatSuits(db, daemon, now)) !== null;
}

/** The oldest of the highest priority that may start now and that this daemon serves, and by which agent. */
async function firstThatSuits(db: Reads, daemon: Daemon, now: number) {
  const kinds = await claimableKinds(db);
  if (kinds.length === 0) return null;
  const pauses = await pausesAt(db, now);
  const daemons = await allDaemons(db);
  const takenBy = (candidate: Kind) => {
    const agent = agentNow(candidate, { daemons, pauses, now });
    return canBegin({ ...candidate, agent }, daemon, pauses) ? { agent } : null;
  };
  const repositories = kinds.filter(takenBy).map(({ repository }) => repository);
  if (repositories.length === 0) return null;
  for (let from = 0; ; from += lookedAtMax) {
    const found = await claimable(db, [...new Set(repositories)], from);
    for (const candidate of found) {
      const fit = takenBy(candidate);
      const run = fit && { ...candidate, ...fit };
      if (run && !(await otherRemembers(db, run, daemon, { daemons, pauses, now })))
        return { id: run.id, agent: run.agent };
    }
    if (found.length < lookedAtMax) return null;
  }
}

/** What of a queued run decides which daemons may take it. */
type Kind = Pick<Run, "repository" | "agent" | "fallback" | "declinedBy">;

/** The kinds of runs that may start now: few, however many runs there are. */
async function claimableKinds(db: Reads): Promise<Kind[]> {
  const { repository, agent, fallback, declinedBy } = runs;
  return await db
    .select({ repository, agent, fallback, declinedBy })
    .from(runs)
    .innerJoin(pipelines, sql`${pipelines.id} = ${runs.pipelineId}`)
    .where(isClaimable)
    .groupBy(repository, agent, fallback, declinedBy);
}

/** What of a queued run decides who takes it: its words are long, and read for the one that is taken. */
type Candidate = Pick<
  Run,
  | "id"
  | "pipelineId"
  | "number"
  | "repository"
  | "agent"
  | "fallback"
  | "declinedBy"
  | "fresh"
  | "createdAt"
>;

/** Whether another daemon is there for it, with room, that had the pipeline's last run. */
async function otherRemembers(
  db: Reads,
  run: Candidate,
  daemon: Daemon,
  { daemons, pauses, now }: { daemons: Daemon[]; pauses: Pause[]; now: number },
): Promise<boolean> {
  if (run.number === 1 || run.fresh || daemons.length === 1) return false;
  const [last] = await db
    .select({ daemon: runs.daemon, endedAt: runs.endedAt })
    .from(runs)
    .where(
      sql`${runs.pipelineId} = ${run.pipelineId} and ${runs.number} < ${run.number} and ${runs.daemon} is not null`,
    )
    .orderBy(desc(runs.number))
    .limit(1);
  if (!last || last.daemon === daemon.name) return false;
  if (now - Math.max(run.createdAt, last.endedAt ?? 0) > rememberedMs) return false;
  const other = daemons.find(({ name }) => name === last.daemon);
  if (!other || !canBegin(run, other, pauses) || !isHere(other, now)) return false;
  return ((await busyByDaemon(db)).get(other.name) ?? 0) < other.slots;
}

/** The first runs that may start now, in the queue's order, at most `limit`. */
export async function firstClaimable(db: Reads, limit: number): Promise<Candidate[]> {
  return await candidates(db, isClaimable, { limit, from: 0 });
}

const claimable = async (db: Reads, repositories: string[], from: number): Promise<Candidate[]> =>
  await candidates(db, sql`${isClaimable} and ${inArray(runs.repository, repositories)}`, {
    limit: lookedAtMax,
    from,
  });

async function candidates(
  db: Reads,
  which: SQL,
  { limit, from }: { limit: number; from: number },
): Promise<Candidate[]> {
  const { id, pipelineId, number, repository, agent, fallback, declinedBy, fresh, createdAt } =
    runs;
  return await db
    .select({
      id,
      pipelineId,
      number,
      repository,
      agent,
      fallback,
      declinedBy,
      fresh,
      createdAt,
    })
    .from(runs)
    .innerJoin(pipelines, sql`${pipelines.id} = ${runs.pipelineId}`)
    .where(which)
    .orderBy(queueOrder)
    .limit(limit)
    .offset(from);
}

function toJob(run: Run, pipeline: Pipeline): Job {
  if (!pipeline.baseSha) throw new Error(`pipeline ${pipeline.id} has no base commit yet`);
  return {
    run: run.id,
    attempt: run.attempt,
    leaseMs: claimedLeaseMs,
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
    handoff: run.handoff,
    fresh: run.fresh,
  };
}
