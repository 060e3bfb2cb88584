import { gatherPrompt } from "../prompt/gather.ts";
import { logOwn } from "../state/event.ts";
import { findPipeline, record } from "../state/pipeline.ts";
import { want } from "../state/report.ts";
import { findRun, openRuns, type Run, recordPrompt } from "../state/run.ts";
import { oneLine } from "../view/wording.ts";
import type { Turn } from "./turn.ts";

/** A queued run's prompt, when its turn on the pipeline has come; from then on it can be claimed. */
export async function writePrompt(turn: Turn): Promise<number> {
  const { db, now, report, workspace, permissions } = turn;
  const run = await findRun(db.read, report.subject);
  const pipeline = run && (await findPipeline(db.read, run.pipelineId));
  if (!run || !pipeline || run.state !== "queued" || run.composed !== null) return now;
  // Wanted again when the run before it has ended.
  const [first] = await openRuns(db.read, run.pipelineId);
  if (first?.id !== run.id) return now;
  const parts = { db, workspace, permissions, now };
  const { prompt, handover, head, notes } = await gatherPrompt(parts, run, pipeline);
  await keep(turn, run, { prompt, handover }, head, notes);
  return now;
}

/** GitHub will not show what was said: the run goes on with what was asked, and says so. */
export async function composeAlone(turn: Turn, why: string) {
  const run = await findRun(turn.db.read, turn.report.subject);
  if (run?.state !== "queued" || run.composed !== null) return;
  await keep(turn, run, { prompt: run.prompt, handover: "" }, null, [
    `GitHub did not show what else was said: ${why}`,
  ]);
}

async function keep(
  { db, now, wake }: Turn,
  run: Run,
  { prompt, handover }: { prompt: string; handover: string },
  head: string | null,
  notes: string[],
) {
  await db.write(async (tx) => {
    await recordPrompt(tx, run.id, prompt, handover);
    if (head) await record(tx, run.pipelineId, { headSha: head });
    const said = notes.map((note) => oneLine(note, 500));
    await logOwn(tx, run.id, now, { type: "composed", notes: said });
    await want(tx, now, run.workspace, "check", run.id, true);
  });
  wake.emit("queue");
  wake.emit("run", run.id);
}
