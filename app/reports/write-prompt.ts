import type { GitHubError } from "../github/error.ts";
import { type Gathered, gatherPrompt, requestOf } from "../prompt/gather.ts";
import { logOwn } from "../state/event.ts";
import { findPipeline, recordHead } from "../state/pipeline.ts";
import { request } from "../state/report.ts";
import { findRun, openRuns, type Run, recordPrompt, runsBefore } from "../state/run.ts";
import { oneLine } from "../text/markdown.ts";
import { done, type Turn, type Written } from "./turn.ts";

const noteMax = 500;

/** Composes a queued run's prompt when its turn on the pipeline has come; from then on it can be claimed. */
export async function writePrompt(turn: Turn): Promise<Written> {
  const { db, now, report, installation, permissions } = turn;
  const run = await findRun(db.read, report.subject);
  const pipeline = run && (await findPipeline(db.read, run.pipelineId));
  if (!run || !pipeline || run.state !== "queued" || run.composed !== null) return done(turn);
  // Requested again when the run before it has ended.
  const [first] = await openRuns(db.read, run.pipelineId);
  if (first?.id !== run.id) return done(turn);
  const parts = { db, installation, permissions, now };
  await keep(turn, run, await gatherPrompt(parts, run, pipeline));
  return done(turn);
}

/** GitHub does not show what was said: the run goes on with its request alone, and says so. */
export async function promptRefused(turn: Turn, { message: why }: GitHubError) {
  const run = await findRun(turn.db.read, turn.report.subject);
  if (run?.state !== "queued" || run.composed !== null) return;
  const notes = [`GitHub did not show what else was said: ${why}`];
  const [last] = await runsBefore(turn.db.read, run, 1);
  const prompt = requestOf(run, last ?? null);
  await keep(turn, run, { prompt, handoff: "", head: null, notes });
}

async function keep({ db }: Turn, run: Run, { prompt, handoff, head, notes }: Gathered) {
  const { id, workspace, pipelineId } = run;
  await db.write(async (tx) => {
    // Asked for more while this was gathered: a report for that is pending.
    if (!(await recordPrompt(tx, run, { composed: prompt, handoff }))) return;
    if (head) await recordHead(tx, pipelineId, head);
    const shown = notes.map((note) => oneLine(note, noteMax));
    await logOwn(tx, id, { type: "composed", notes: shown });
    await request(tx, { workspace, subject: id, wanted: { kind: "check" } }, { urgent: true });
  });
}
