import { and, asc, desc, eq, inArray, sql } from "drizzle-orm";
import type { Database } from "./database.ts";
import { findPipeline, type Pipeline } from "./pipeline.ts";
import type { Event, Stage } from "./protocol/wire.ts";
import { findRun, type Run } from "./run.ts";
import { events, runs } from "./schema.ts";
import { count } from "./wording.ts";

type Receipt = Omit<Extract<Event, { type: "receipt" }>, "seq" | "at" | "type">;
type StageTime = { stage: Stage; durationMs: number | null };

/** All that a comment, a check run, a pull request or a page says of a run. */
export type RunView = {
  run: Run;
  pipeline: Pipeline;
  stages: StageTime[];
  commits: { sha: string; subject: string }[];
  receipts: Receipt[];
  /** The agent's last words. */
  words: string | null;
  /** Its last facts, oldest first, a line each. */
  lines: { at: number; text: string }[];
  /** Runs that stand before it in the queue, over all pipelines; 0: next. */
  ahead: number;
};

/** Facts read for one view; enough for the story, bounded for a talkative agent. */
const factsMax = 2_000;
const linesMax = 30;

export async function viewRun(db: Database, runId: string, now: number): Promise<RunView | null> {
  const run = await findRun(db.read, runId);
  const pipeline = run && (await findPipeline(db.read, run.pipelineId));
  if (!run || !pipeline) return null;
  const newestFirst = await db.read
    .select()
    .from(events)
    .where(and(eq(events.runId, runId), inArray(events.attempt, [0, run.attempt])))
    .orderBy(desc(events.id))
    .limit(factsMax);
  const facts = newestFirst.reverse();
  const own = facts.filter((fact) => fact.attempt === run.attempt && fact.attempt > 0);
  const of = <T extends Event["type"]>(type: T) =>
    own
      .filter((fact) => fact.type === type)
      .map((fact) => fact.data as Omit<Extract<Event, { type: T }>, "seq" | "at" | "type">);
  return {
    run,
    pipeline,
    stages: stageTimes(own, run.endedAt ?? null, now),
    commits: of("commit"),
    receipts: of("receipt"),
    words: of("say").at(-1)?.text ?? null,
    lines: facts
      .map((fact) => ({ at: fact.at, text: sentence(fact.type, fact.data) }))
      .slice(-linesMax),
    ahead: run.state === "queued" ? await countAhead(db, run) : 0,
  };
}

/** Every run of a pipeline, first to last. */
export async function runsOf(db: Database, pipelineId: string): Promise<Run[]> {
  return await db.read
    .select()
    .from(runs)
    .where(eq(runs.pipelineId, pipelineId))
    .orderBy(asc(runs.number));
}

async function countAhead(db: Database, run: Run): Promise<number> {
  const [row] = await db.read
    .select({ n: sql<number>`count(*)` })
    .from(runs)
    .where(
      sql`state = 'queued' and (${runs.priority} > ${run.priority} or (${runs.priority} = ${run.priority} and ${runs.createdAt} < ${run.createdAt}))`,
    );
  return row?.n ?? 0;
}

function stageTimes(
  facts: (typeof events.$inferSelect)[],
  endedAt: number | null,
  now: number,
): StageTime[] {
  const starts = facts.filter((fact) => fact.type === "stage");
  return starts.map((start, index) => {
    const end = starts[index + 1]?.at ?? endedAt;
    const open = end === null;
    return {
      stage: start.data.stage as Stage,
      durationMs: open ? null : Math.max(0, Math.min(end, now) - start.at),
    };
  });
}

/** One fact as one line of plain text. */
export function sentence(type: string, data: Record<string, unknown>): string {
  const text = (name: string) => String(data[name] ?? "");
  switch (type) {
    case "queued":
      return `queued for ${text("by")} (${text("trigger")})`;
    case "claimed":
      return `claimed by ${text("daemon")}, attempt ${text("attempt")}`;
    case "requeued":
      return `back in the queue: ${text("why")}`;
    case "cancel_requested":
      return `${text("by")} asked to stop`;
    case "ended":
      return `${text("state")}${data.why ? `: ${text("why").split("\n")[0]}` : ""}`;
    case "started":
      return `container of ${text("image")} for ${text("agent")}: no network, ${count(Number(data.cpus), "cpu")}, ${Math.round(Number(data.memoryBytes) / 2 ** 20)} MB, ${text("minutes")} min at most`;
    case "stage":
      return `stage ${text("stage")}`;
    case "say":
      return `agent: ${text("text")}`;
    case "notice":
      return text("text");
    case "commit":
      return `commit ${text("sha").slice(0, 7)} ${text("subject")}`;
    case "pushed":
      return `pushed ${text("sha").slice(0, 7)}`;
    case "receipt":
      return `verify ${text("command")}: ${data.exitCode === 0 ? "passed" : `exit ${text("exitCode")}`} in ${(Number(data.durationMs) / 1000).toFixed(1)} s`;
    case "egress":
      return `${data.allowed ? "connected to" : "kept from"} ${text("host")} (${text("reason")})`;
    case "output":
      return `${count(Number(data.lines), "line")} of output so far, ${count(Number(data.bytes), "byte")}`;
    default:
      return type;
  }
}
