import { asc, desc, eq, inArray, sql } from "drizzle-orm";
import { allDaemons, type Daemon, isHere } from "../state/daemon.ts";
import type { Reads } from "../state/database.ts";
import { type Pause, pauseOf, pausesAt } from "../state/pause.ts";
import type { Pipeline } from "../state/pipeline.ts";
import type { Position } from "../state/position.ts";
import { refusalOf } from "../state/report.ts";
import { liveStates, openStates, type Run } from "../state/run.ts";
import { pipelines, runs } from "../state/schema.ts";
import { stateOfWorkspace } from "../state/workspace.ts";
import { agentNow, suits } from "./match.ts";
import { inQueue, isBefore } from "./queue-order.ts";

/** The most past runs that an estimate is made of. */
const pastMax = 20;
/** The most queued runs that are looked at for one position. */
const lookedAtMax = 1_000;

/** The position of a queued run at `now` (milliseconds since 1970). */
export async function positionOf(
  db: Reads,
  run: Run,
  pipeline: Pipeline,
  now: number,
): Promise<Position> {
  const none = { position: null, startsInMs: null };
  if ((await stateOfWorkspace(db, run.workspace)) !== "active")
    return { ...none, waits: { for: "suspended" } };
  if (pipeline.held) return { ...none, waits: { for: "hold" } };
  const before = await runBefore(db, run);
  if (before !== null) return { ...none, waits: { for: "pipeline", run: before } };
  const refusal = await refusalFor(db, run, pipeline);
  if (refusal) return { ...none, waits: { for: "github", ...refusal } };
  const daemons = await allDaemons(db);
  const pauses = await pausesAt(db, now);
  const taken = { ...run, agent: agentNow(run, { daemons, pauses, now }) };
  const mine = daemons.filter((daemon) => suits(taken, daemon));
  const present = mine.filter((daemon) => isHere(daemon, now));
  if (present.length === 0)
    return { ...none, waits: { for: "daemon", away: mine.map((daemon) => daemon.name) } };
  const paused = present.flatMap((daemon) => pauseOf(pauses, daemon, taken.agent) ?? []);
  const here = present.filter((daemon) => !pauseOf(pauses, daemon, taken.agent));
  if (here.length === 0) return waitsForQuota(present, paused, now);
  const ahead = await runsAhead(db, run, here, (other) => {
    const agent = agentNow(other, { daemons, pauses, now });
    return (daemon) =>
      suits({ ...other, agent }, daemon) && pauseOf(pauses, daemon, agent) === null;
  });
  return await waitsForSlot(db, run, pipeline, { here, ahead, now });
}

/** How GitHub refuses to make its branch or to show what was said; null: it does not. */
async function refusalFor(db: Reads, run: Run, pipeline: Pipeline) {
  if (!pipeline.branchReady) return await refusalOf(db, "pipeline", pipeline.id);
  return run.composed === null ? await refusalOf(db, "prompt", run.id) : null;
}

/** On every daemon that is there for it its agent pauses. */
function waitsForQuota(here: Daemon[], paused: Pause[], now: number): Position {
  const until = Math.min(...paused.map((pause) => pause.until));
  const first = paused.find((pause) => pause.until === until);
  const daemons = here.map((daemon) => daemon.name);
  const code = first?.code ?? "quota_reached";
  const waits = { for: "quota" as const, agent: first?.agent ?? "", code, daemons, until };
  return { position: null, startsInMs: Math.max(0, until - now), waits };
}

async function waitsForSlot(
  db: Reads,
  run: Run,
  pipeline: Pipeline,
  { here, ahead, now }: { here: Daemon[]; ahead: number; now: number },
): Promise<Position> {
  const live = await liveOn(db, here);
  const of = (name: string) => live.filter((other) => other.daemon === name);
  const daemons = here.map(({ name, slots }) => ({ name, slots, busy: of(name).length }));
  const position = ahead + 1;
  const free = daemons.some(({ busy, slots }) => busy < slots);
  if (free && ahead === 0 && (run.composed === null || !pipeline.branchReady))
    return { position, startsInMs: null, waits: { for: "branch" } };
  const waits = { for: "slot" as const, daemons };
  const typicalMs = await typicalLengthMs(db, run.repository);
  if (typicalMs === null) return { position, startsInMs: null, waits };
  const freeAt = daemons.flatMap(({ name, slots }) =>
    slotsFreeIn(
      of(name).map((other) => other.startedAt ?? now),
      { slots, now, typicalMs },
    ),
  );
  return { position, startsInMs: waitBehind(freeAt, ahead, typicalMs), waits };
}

/**
 * In how many milliseconds each slot of a daemon is free, by when its runs started (milliseconds since
 * 1970). A run that takes longer than usual may end now.
 */
export function slotsFreeIn(
  startedAt: number[],
  { slots, now, typicalMs }: { slots: number; now: number; typicalMs: number },
): number[] {
  const busy = startedAt.slice(0, slots).map((at) => Math.max(0, at + typicalMs - now));
  return [...busy, ...Array.from({ length: slots - busy.length }, () => 0)];
}

/**
 * In how many milliseconds the run behind `ahead` others gets a slot, each taking the one that is free
 * first; `freeIn` as of `slotsFreeIn`.
 */
export function waitBehind(freeIn: number[], ahead: number, typicalMs: number): number {
  const slots = [...freeIn];
  for (let i = 0; i < ahead; i++) {
    const first = slots.indexOf(Math.min(...slots));
    slots[first] = (slots[first] ?? 0) + typicalMs;
  }
  return Math.min(...slots);
}

/** The number of the pipeline's run that has to end first; null: none. */
async function runBefore(db: Reads, run: Run): Promise<number | null> {
  const [before] = await db
    .select({ number: runs.number })
    .from(runs)
    .where(
      sql`${runs.pipelineId} = ${run.pipelineId} and ${runs.number} < ${run.number} and ${inArray(runs.state, [...openStates])}`,
    )
    .orderBy(asc(runs.number))
    .limit(1);
  return before?.number ?? null;
}

/** How many queued runs one of these daemons would take first. */
async function runsAhead(
  db: Reads,
  run: Run,
  daemons: Daemon[],
  taker: (other: Run) => (daemon: Daemon) => boolean,
): Promise<number> {
  const rows = await db
    .select({ run: runs })
    .from(runs)
    .innerJoin(pipelines, eq(pipelines.id, runs.pipelineId))
    .where(sql`${inQueue} and ${isBefore(run)}`)
    .limit(lookedAtMax);
  return rows.filter((row) => daemons.some(taker(row.run))).length;
}

async function liveOn(db: Reads, daemons: Daemon[]) {
  const names = daemons.map((daemon) => daemon.name);
  return await db
    .select({ daemon: runs.daemon, startedAt: runs.startedAt })
    .from(runs)
    .where(sql`${inArray(runs.state, [...liveStates])} and ${inArray(runs.daemon, names)}`);
}

/** The median length of the repository's last runs, in milliseconds; null: there are none. */
async function typicalLengthMs(db: Reads, repository: string): Promise<number | null> {
  const past = await db
    .select({ startedAt: runs.startedAt, endedAt: runs.endedAt })
    .from(runs)
    .where(
      sql`${runs.repository} = ${repository} and ${runs.endedAt} is not null and ${runs.startedAt} is not null`,
    )
    .orderBy(desc(runs.createdAt))
    .limit(pastMax);
  const lengths = past
    .map(({ startedAt, endedAt }) => (endedAt ?? 0) - (startedAt ?? 0))
    .sort((a, b) => a - b);
  return lengths[Math.floor(lengths.length / 2)] ?? null;
}
