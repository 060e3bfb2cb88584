import { logOwn } from "./event.ts";
import { gatherPrompt } from "./gather.ts";
import { want } from "./outbox.ts";
import { findPipeline, record } from "./pipeline.ts";
import { findRun, openRuns, type Run, recordPrompt } from "./run.ts";
import type { Turn } from "./turn.ts";
import { oneLine } from "./wording.ts";

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
  const { prompt, head, notes } = await gatherPrompt(parts, run, pipeline);
  await keep(turn, run, prompt, head, notes);
  return now;
}

/** GitHub will not show what was said: the run goes on with what was asked, and says so. */
export async function composeAlone(turn: Turn, why: string) {
  const run = await findRun(turn.db.read, turn.report.subject);
  if (run?.state !== "queued" || run.composed !== null) return;
  await keep(turn, run, run.prompt, null, [`GitHub did not show what else was said: ${why}`]);
}

async function keep(
  { db, now, wake }: Turn,
  run: Run,
  prompt: string,
  head: string | null,
  notes: string[],
) {
  await db.write(async (tx) => {
    await recordPrompt(tx, run.id, prompt);
    if (head) await record(tx, run.pipelineId, { headSha: head });
    const said = notes.map((note) => oneLine(note, 500));
    await logOwn(tx, run.id, now, { type: "composed", notes: said });
    await want(tx, now, run.workspace, "check", run.id, true);
  });
  wake.emit("queue");
  wake.emit("run", run.id);
}
