import { positionOf } from "../dispatch/position.ts";
import { findOpen, type Pipeline } from "../state/pipeline.ts";
import type { StatusRun } from "../state/reply.ts";
import { openRuns, type Run } from "../state/run.ts";
import { answer, type Parts, type Source } from "./intent.ts";

/** `/trimo status`: position, machine, stage and time of each open run of the thread's pipeline. */
export async function answerStatus(parts: Parts, source: Source) {
  const { db } = parts;
  const thread = source.thread ?? 0;
  const pipeline = await findOpen(db.read, source.repository.id, thread);
  const open = pipeline ? await openRuns(db.read, pipeline.id) : [];
  const runs: StatusRun[] = [];
  for (const run of open) if (pipeline) runs.push(await statusOf(parts, run, pipeline));
  await answer(parts, source, { kind: "status", pipeline: pipeline !== null, runs });
}

async function statusOf({ db, clock }: Parts, run: Run, pipeline: Pipeline): Promise<StatusRun> {
  const now = clock.now();
  const { number, stage, agent, daemon } = run;
  return {
    number,
    state: run.state === "running" || run.state === "claimed" ? run.state : "queued",
    stage,
    agent,
    daemon,
    runningMs: run.startedAt ? now - run.startedAt : null,
    stopping: run.cancelledBy !== null,
    position: run.state === "queued" ? await positionOf(db.read, run, pipeline, now) : null,
  };
}
