import { asc, desc, eq, inArray, sql } from "drizzle-orm";
import type { Database } from "../state/database.ts";
import { type Pause, pauseOf, pausesNow } from "../state/pause.ts";
import type { Pipeline } from "../state/pipeline.ts";
import type { Run } from "../state/run.ts";
import { daemons, pipelines, runs } from "../state/schema.ts";
import { stateOfWorkspace } from "../state/workspace.ts";
import { agentNow, type Daemon, isHere, suits } from "./queue.ts";

/** Past runs that an estimate is made of. */
const pastMax = 20;
/** Queued runs looked at for one place in line. */
const lookedAtMax = 1_000;

/** Where a queued run stands, what it waits for, and when it may start; all as of one moment. */
export type Place = {
  /** 1: the next one for its machines; null: it is in no line while it is held up. */
  position: number | null;
  waits:
    | { for: "slot"; machines: { name: string; busy: number; slots: number }[] }
    | { for: "pipeline"; run: number }
    | { for: "daemon"; away: string[] }
    | { for: "quota"; agent: string; machines: string[]; until: number }
    | { for: "hold" }
    | { for: "suspended" }
    | { for: "branch" };
  /** Milliseconds until it may start, by the length of past runs; null: nothing to go by. */
  startsInMs: number | null;
};

/** The line as it is now, for one of its queued runs. */
export async function placeInLine(
  db: Database,
  run: Run,
  pipeline: Pipeline,
  now: number,
): Promise<Place> {
  const none = { position: null, startsInMs: null };
  if ((await stateOfWorkspace(db.read, run.workspace)) !== "active")
    return { ...none, waits: { for: "suspended" } };
  if (pipeline.held) return { ...none, waits: { for: "hold" } };
  const before = await runBefore(db, run);
  if (before !== null) return { ...none, waits: { for: "pipeline", run: before } };
  const all = await db.read.select().from(daemons);
  const paused = await pausesNow(db.read, now);
  const taken = { ...run, agent: agentNow(run, all, paused, now) };
  const mine = all.filter((daemon) => suits(taken, daemon));
  const present = mine.filter((daemon) => isHere(daemon, now));
  if (present.length === 0)
    return { ...none, waits: { for: "daemon", away: mine.map((daemon) => daemon.name) } };
  const halted = present.flatMap((daemon) => pauseOf(paused, daemon, taken.agent) ?? []);
  const here = present.filter((daemon) => !pauseOf(paused, daemon, taken.agent));
  if (here.length === 0) return waitsForQuota(present, halted, now);
  const ahead = await runsAhead(db, run, here, (other) => {
    const agent = agentNow(other, all, paused, now);
    return (machine) =>
      suits({ ...other, agent }, machine) && pauseOf(paused, machine, agent) === null;
  });
  const live = await liveOn(db, here);
  const machines = here.map(({ name, slots }) => ({
    name,
    slots,
    busy: live.filter((other) => other.daemon === name).length,
  }));
  const position = ahead + 1;
  const free = machines.some(({ busy, slots }) => busy < slots);
  if (free && ahead === 0 && (run.composed === null || pipeline.openingSha === null))
    return { position, startsInMs: null, waits: { for: "branch" } };
  const typicalMs = await typicalLength(db, run.repository);
  const freeAt = machines.flatMap(({ name, slots }) =>
    slotsFreeAt(
      live.filter((other) => other.daemon === name).map((other) => other.startedAt ?? now),
      slots,
      now,
      typicalMs ?? 0,
    ),
  );
  const startsInMs = typicalMs === null ? null : waitFor(freeAt, ahead, typicalMs);
  return { position, waits: { for: "slot", machines }, startsInMs };
}

/** Every machine that is there for it has used up its agent's quota. */
function waitsForQuota(here: Daemon[], halted: Pause[], now: number): Place {
  const until = Math.min(...halted.map((pause) => pause.until));
  const agent = halted[0]?.agent ?? "";
  const machines = here.map((daemon) => daemon.name);
  const waits = { for: "quota" as const, agent, machines, until };
  return { position: null, startsInMs: Math.max(0, until - now), waits };
}

/** For each slot, in how many milliseconds it is free. One that runs longer than usual may end now. */
export function slotsFreeAt(
  startedAt: number[],
  slots: number,
  now: number,
  typicalMs: number,
): number[] {
  const busy = startedAt.slice(0, slots).map((at) => Math.max(0, at + typicalMs - now));
  return [...busy, ...Array.from({ length: slots - busy.length }, () => 0)];
}

/** When the run behind `ahead` others gets a slot, each taking the one that is free first. */
export function waitFor(freeAt: number[], ahead: number, typicalMs: number): number {
  const slots = [...freeAt];
  for (let i = 0; i < ahead; i++) {
    const first = slots.indexOf(Math.min(...slots));
    slots[first] = (slots[first] ?? 0) + typicalMs;
  }
  return Math.min(...slots);
}

/** The number of the pipeline's run that has to end first. */
async function runBefore(db: Database, run: Run): Promise<number | null> {
  const [before] = await db.read
    .select({ number: runs.number })
    .from(runs)
    .where(
      sql`${runs.pipelineId} = ${run.pipelineId} and ${runs.number} < ${run.number} and ${runs.state} in ('queued', 'claimed', 'running')`,
    )
    .orderBy(asc(runs.number))
    .limit(1);
  return before?.number ?? null;
}

/** Queued runs that one of these machines would take first. */
async function runsAhead(
  db: Database,
  run: Run,
  machines: Daemon[],
  taker: (other: Run) => (machine: Daemon) => boolean,
): Promise<number> {
  const rows = await db.read
    .select({ run: runs })
    .from(runs)
    .innerJoin(pipelines, eq(pipelines.id, runs.pipelineId))
    .where(
      sql`${runs.state} = 'queued' and ${pipelines.state} = 'open' and ${pipelines.held} = 0
        and (${runs.priority} > ${run.priority} or (${runs.priority} = ${run.priority}
          and (${runs.createdAt} < ${run.createdAt} or (${runs.createdAt} = ${run.createdAt} and runs.rowid < (select mine.rowid from runs mine where mine.id = ${run.id})))))`,
    )
    .limit(lookedAtMax);
  return rows.filter((row) => machines.some(taker(row.run))).length;
}

async function liveOn(db: Database, machines: Daemon[]) {
  return await db.read
    .select({ daemon: runs.daemon, startedAt: runs.startedAt })
    .from(runs)
    .where(
      sql`${runs.state} in ('claimed', 'running') and ${inArray(
        runs.daemon,
        machines.map((machine) => machine.name),
      )}`,
    );
}

/** The median of the repository's last runs, in milliseconds. */
async function typicalLength(db: Database, repository: string): Promise<number | null> {
  const past = await db.read
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
