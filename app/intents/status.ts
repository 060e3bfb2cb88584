import { placeInLine } from "../dispatch/position.ts";
import { findOpen, type Pipeline } from "../state/pipeline.ts";
import { openRuns, type Run } from "../state/run.ts";
import { code, duration, placeWords } from "../view/wording.ts";
import { answer, type Parts, type Place } from "./intent.ts";

/** Answers `/trimo status`: queue position, machine, stage and time of each open run. */
export async function sayStatus(parts: Parts, place: Place) {
  const { db, clock } = parts;
  const pipeline = await findOpen(db.read, place.repository.id, place.thread);
  const open = pipeline ? await openRuns(db.read, pipeline.id) : [];
  const lines: string[] = [];
  for (const run of open)
    if (pipeline) lines.push(`- ${await lineOf(parts, run, pipeline, clock.now())}`);
  const none = pipeline
    ? "No run is queued or under way here. `/trimo continue` starts the next one."
    : "No run is queued or under way here.";
  await answer(parts, place, "status", lines.length > 0 ? lines.join("\n") : none);
}

async function lineOf({ db }: Parts, run: Run, pipeline: Pipeline, now: number): Promise<string> {
  if (run.state === "queued") {
    const place = await placeInLine(db, run, pipeline, now);
    const { where, why } = placeWords(place);
    return `⏳ run ${run.number} is queued · ${where}. ${why}`;
  }
  const on = run.daemon ? ` on ${code(run.daemon)}` : "";
  if (run.state === "claimed") return `⏳ run ${run.number} is being prepared${on}`;
  const time = run.startedAt ? ` · ${duration(now - run.startedAt)}` : "";
  const stopping = run.cancelledBy ? " · it is being stopped" : "";
  return `🔄 run ${run.number}${run.agent ? ` · ${code(run.agent)}` : ""}${on} · ${run.stage ?? "preparing"}${time}${stopping}`;
}
