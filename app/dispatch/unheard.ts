import { and, eq } from "drizzle-orm";
import type { Tx } from "../state/database.ts";
import { findPipeline } from "../state/pipeline.ts";
import { wantOnce } from "../state/report.ts";
import { isOver, type Run, startAfter } from "../state/run.ts";
import { events } from "../state/schema.ts";
import { tellsAfter } from "../state/tell.ts";
import { plain } from "../view/wording.ts";

/**
 * What people told a run and no agent heard is not lost: it is the next, corrective run; where the run
 * was stopped or its machine is gone, they are told.
 */
export async function carryOver(tx: Tx, at: number, run: Run) {
  if (!isOver(run.state)) return;
  const left = await tellsAfter(tx, run.id, await lastHeard(tx, run));
  const [first] = left;
  const pipeline = await findPipeline(tx, run.pipelineId);
  if (!first || !pipeline) return;
  const goesOn = ["succeeded", "failed", "timed_out"].includes(run.state);
  const say = async (body: string) => {
    const data = { repository: run.repository, issue: run.thread || pipeline.issue, body };
    await wantOnce(tx, at, run.workspace, "reply", `unheard:${run.id}`, data);
  };
  const words = `What ${plain(first.by, 60)} said came too late for the agent of run ${run.number}`;
  if (!goesOn || pipeline.state !== "open" || run.cancelledBy)
    return await say(`${words}: \`/trimo fix\` with the words again starts the next run.`);
  const next = await startAfter(tx, at, run, pipeline.priority, {
    kind: "fix",
    prompt: left.map(({ text }) => text).join("\n\n"),
    requestedBy: first.by,
    trigger: "/trimo tell",
  });
  await say(`${words}: it is run ${next.number}, a corrective run.`);
}

async function lastHeard(tx: Tx, run: Run): Promise<number> {
  const told = await tx
    .select({ data: events.data })
    .from(events)
    .where(and(eq(events.runId, run.id), eq(events.attempt, run.attempt), eq(events.type, "told")));
  return Math.max(0, ...told.map(({ data }) => Number(data.id) || 0));
}
