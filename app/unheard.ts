import { and, eq } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { newId } from "./identity.ts";
import { wantOnce } from "./outbox.ts";
import { findPipeline } from "./pipeline.ts";
import { promptMax } from "./protocol/wire.ts";
import { isOver, type Run, start } from "./run.ts";
import { events } from "./schema.ts";
import { tellsAfter } from "./tell.ts";
import { plain } from "./wording.ts";

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
  const next = await start(tx, at, {
    id: newId(),
    pipelineId: run.pipelineId,
    workspace: run.workspace,
    repository: run.repository,
    kind: "fix",
    prompt: left
      .map(({ text }) => text)
      .join("\n\n")
      .slice(0, promptMax),
    requestedBy: first.by,
    trigger: "/trimo tell",
    agent: run.agent,
    image: run.askedImage,
    thread: run.thread,
    priority: pipeline.priority,
    askedAt: at,
    fallback: run.fallback,
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
