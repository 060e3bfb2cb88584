import { and, asc, desc, eq, inArray, notInArray, type SQL } from "drizzle-orm";
import { type Place, placeInLine } from "../dispatch/position.ts";
import type { Event, Stage } from "../protocol/wire.ts";
import type { Database } from "../state/database.ts";
import { findPipeline, type Pipeline } from "../state/pipeline.ts";
import { findRun, type Run } from "../state/run.ts";
import { events, runs } from "../state/schema.ts";
import { count, type Usage, usageWords } from "./wording.ts";

type Receipt = Omit<Extract<Event, { type: "receipt" }>, "seq" | "at" | "type">;
type Service = Omit<Extract<Event, { type: "service" }>, "seq" | "at" | "type">;
type StageTime = { stage: Stage; durationMs: number | null };

/** All that a comment, a check run, a pull request or a page says of a run. */
export type RunView = {
  run: Run;
  pipeline: Pipeline;
  stages: StageTime[];
  commits: { sha: string; subject: string }[];
  receipts: Receipt[];
  /** The last that is known of each service that preboot started. */
  services: Service[];
  /** The agent's last words. */
  words: string | null;
  /** Its last facts, oldest first, a line each. */
  lines: { at: number; text: string }[];
  /** What the base had that the branch had not; null: nothing, or not known yet. */
  drift: { behind: number; conflicts: string[] | null } | null;
  /** The agent's list of what is to be done, as it is now; null: it made none. */
  plan: { text: string; done: boolean }[] | null;
  /** What the agent knows of the runs before; null: there were none. */
  session: SessionFrom | null;
  /** Where it tried to go beside its model, each once. */
  attempts: { host: string; allowed: boolean; reason: string }[];
  /** Tokens and cost so far; null where the agent does not tell. */
  usage: Usage | null;
  /** What went with the prompt and what was left out, in sentences. */
  notes: string[];
  /** Where it stands while it is queued. */
  place: Place | null;
};

/** Facts read for one view; enough for the story, bounded for a talkative agent. */
const factsMax = 2_000;
const linesMax = 30;
/** Of these there may be thousands: only the last count, and they must not push out the others. */
const manyTypes = ["tool", "edit", "model", "usage", "output"];
const manyMax = 200;

export async function viewRun(db: Database, runId: string, now: number): Promise<RunView | null> {
  const run = await findRun(db.read, runId);
  const pipeline = run && (await findPipeline(db.read, run.pipelineId));
  if (!run || !pipeline) return null;
  const newest = async (which: SQL, limit: number) =>
    await db.read
      .select()
      .from(events)
      .where(and(eq(events.runId, runId), inArray(events.attempt, [0, run.attempt]), which))
      .orderBy(desc(events.id))
      .limit(limit);
  const facts = [
    ...(await newest(notInArray(events.type, manyTypes), factsMax)),
    ...(await newest(inArray(events.type, manyTypes), manyMax)),
  ].sort((a, b) => a.id - b.id);
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
    services: [...new Map(of("service").map((one) => [one.name, one])).values()],
    words: of("say").at(-1)?.text ?? null,
    lines: facts
      .filter((fact) => !isQuiet(fact.type, fact.data))
      .map((fact) => ({ at: fact.at, text: sentence(fact.type, fact.data) }))
      .slice(-linesMax),
    drift: of("base").at(-1) ?? null,
    plan: of("plan").at(-1)?.items ?? null,
    session: of("session").at(-1) ?? null,
    attempts: of("egress"),
    usage: of("usage").at(-1) ?? null,
    notes: facts.flatMap((fact) => (fact.type === "composed" ? (fact.data.notes as string[]) : [])),
    place: run.state === "queued" ? await placeInLine(db, run, pipeline, now) : null,
  };
}

type SessionFrom = { from: "session" | "handover" | "nothing"; why: string };

/** What the agent began with, as a sentence. */
export function sessionWords({ from, why }: SessionFrom): string {
  const because = why ? ` (${why})` : "";
  if (from === "session")
    return `The agent goes on with its own session of this pipeline${because}.`;
  if (from === "nothing") return `The agent knows nothing of the runs before${because}.`;
  return `The agent was given a written hand-over of the runs before${because}.`;
}

/** Counts and answers that went well are shown elsewhere: a line each would hide the rest. */
const isQuiet = (type: string, data: Record<string, unknown>): boolean =>
  type === "usage" || type === "output" || (type === "model" && data.problem === "");

/** Every run of a pipeline, first to last. */
export async function runsOf(db: Database, pipelineId: string): Promise<Run[]> {
  return await db.read
    .select()
    .from(runs)
    .where(eq(runs.pipelineId, pipelineId))
    .orderBy(asc(runs.number));
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
    case "composed":
      return ["prompt put together", ...((data.notes as string[]) ?? [])].join(" · ");
    case "base":
      return `the base has ${count(Number(data.behind), "commit")} more${driftWords(data.conflicts as string[] | null)}`;
    case "usage":
      return usageWords(data as Usage).join(", ");
    case "ask":
      return `agent asks: ${text("text")}`;
    case "cancel_requested":
      return `${text("by")} asked to stop`;
    case "ended":
      return `${text("state")}${data.why && data.why !== data.state ? `: ${text("why").split("\n")[0]}` : ""}`;
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
    case "service":
      return data.state === "ready"
        ? `${text("name")} is ready after ${(Number(data.durationMs) / 1000).toFixed(1)} s`
        : `${text("name")} ${data.state === "died" ? "has ended" : "was running"}`;
    case "tool":
      return [text("name"), text("target")].filter(Boolean).join(" ");
    case "edit": {
      const lines = data.added === null ? "" : ` +${text("added")} −${text("removed")}`;
      return `edit ${text("path")}${lines}`;
    }
    case "plan": {
      const items = (data.items ?? []) as { done: boolean }[];
      return `plan: ${items.filter((item) => item.done).length} of ${count(items.length, "item")} done`;
    }
    case "model": {
      const again = data.retry ? ", tried again" : "";
      const took = `${(Number(data.durationMs) / 1000).toFixed(1)} s`;
      return data.problem
        ? `the model: ${text("problem")} after ${took}${again}`
        : `the model answered in ${took}${again}`;
    }
    case "session":
      return sessionWords(data as SessionFrom);
    case "told":
      return `${text("by")} told the agent: ${text("text")}`;
    case "comment":
      return "the agent commented on the pull request";
    case "output":
      return `${count(Number(data.lines), "line")} of output so far, ${count(Number(data.bytes), "byte")}`;
    default:
      return type;
  }
}

/** ` and conflicts in a, b`; nothing where there is no conflict. */
export function driftWords(conflicts: string[] | null): string {
  if (conflicts === null || conflicts.length === 0) return "";
  const shown = conflicts.slice(0, 5).join(", ");
  const rest = conflicts.length - 5;
  return `, in conflict with the branch in ${shown}${rest > 0 ? ` and ${rest} more` : ""}`;
}
