import { positionOf } from "../dispatch/position.ts";
import type { Fact, Stage } from "../protocol/event.ts";
import type { Reads } from "../state/database.ts";
import { factsOfAttempt, type LoggedFact } from "../state/event.ts";
import { findPipeline, type Pipeline } from "../state/pipeline.ts";
import type { Position } from "../state/position.ts";
import { findRun, type Run } from "../state/run.ts";
import { isQuiet, type SessionFrom, sentence } from "./sentence.ts";
import type { Usage } from "./units.ts";

type FactOf<Type extends Fact["type"]> = Extract<Fact, { type: Type }>;
/** `durationMs`: null while the stage is under way. */
type StageTime = { stage: Stage; durationMs: number | null };

/** All that a comment, a check run, a pull request or a page says of a run. */
export type RunView = {
  run: Run;
  pipeline: Pipeline;
  stages: StageTime[];
  commits: Omit<FactOf<"commit">, "type">[];
  receipts: Omit<FactOf<"receipt">, "type">[];
  /** The last that is known of each service that preboot started. */
  services: Omit<FactOf<"service">, "type">[];
  /** The agent's last words; null: it has said nothing. */
  words: string | null;
  /** Its last facts, oldest first, a line each; `at` in milliseconds since 1970. */
  lines: { at: number; text: string }[];
  /** What the base has that the branch has not; null: nothing, or it is not known yet. */
  drift: Omit<FactOf<"base">, "type"> | null;
  /** The agent's plan as it is now; null: it made none. */
  plan: { text: string; done: boolean }[] | null;
  /** What the agent knows of the runs before; null: there were none. */
  session: SessionFrom | null;
  /** What of its work is nowhere but on its machine; null: nothing. */
  kept: Omit<FactOf<"kept">, "type"> | null;
  /** The hosts it tried to reach beside its model, each once. */
  connections: Omit<FactOf<"egress">, "type">[];
  /** Tokens and cost so far; null where the agent does not tell. */
  usage: Usage | null;
  /** What went with the prompt and what was left out, in sentences. */
  notes: string[];
  /** Where it stands in the queue; null: it is not queued. */
  position: Position | null;
};

const linesMax = 30;

/** A run as people are shown it at `now` (milliseconds since 1970); null: there is no such run. */
export async function viewRun(db: Reads, runId: string, now: number): Promise<RunView | null> {
  const run = await findRun(db, runId);
  const pipeline = run && (await findPipeline(db, run.pipelineId));
  if (!run || !pipeline) return null;
  const facts = await factsOfAttempt(db, runId, run.attempt);
  const of = <Type extends Fact["type"]>(type: Type) =>
    facts.flatMap(({ attempt, fact }) =>
      attempt > 0 && fact.type === type ? [fact as FactOf<Type>] : [],
    );
  return {
    run,
    pipeline,
    stages: stageTimes(facts, run.endedAt ?? null, now),
    commits: of("commit"),
    receipts: of("receipt"),
    services: [...new Map(of("service").map((one) => [one.name, one])).values()],
    words: of("say").at(-1)?.text ?? null,
    lines: facts
      .filter(({ fact }) => !isQuiet(fact))
      .map(({ at, fact }) => ({ at, text: sentence(fact) }))
      .slice(-linesMax),
    drift: of("base").at(-1) ?? null,
    plan: of("plan").at(-1)?.items ?? null,
    session: of("session").at(-1) ?? null,
    kept: of("kept").at(-1) ?? null,
    connections: of("egress"),
    usage: of("usage").at(-1) ?? null,
    notes: facts.flatMap(({ fact }) => (fact.type === "composed" ? fact.notes : [])),
    position: run.state === "queued" ? await positionOf(db, run, pipeline, now) : null,
  };
}

function stageTimes(facts: LoggedFact[], endedAt: number | null, now: number): StageTime[] {
  const starts = facts.flatMap(({ at, fact }) =>
    fact.type === "stage" ? [{ at, stage: fact.stage }] : [],
  );
  return starts.map(({ at, stage }, index) => {
    const end = starts[index + 1]?.at ?? endedAt;
    return { stage, durationMs: end === null ? null : Math.max(0, Math.min(end, now) - at) };
  });
}
