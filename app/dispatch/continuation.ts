import type { PausingCode } from "../protocol/failure.ts";
import type { Settle } from "../protocol/settle.ts";
import type { Daemon } from "../state/daemon.ts";
import type { Tx } from "../state/database.ts";
import { lastMessageHeard } from "../state/event.ts";
import { messagesAfter } from "../state/message.ts";
import { firstOrigin } from "../state/origin.ts";
import { pauseAgents } from "../state/pause.ts";
import { findPipeline } from "../state/pipeline.ts";
import type { Reply } from "../state/reply.ts";
import { requestOnce } from "../state/report.ts";
import {
  enqueueAfter,
  extendRequest,
  isOver,
  openRuns,
  type Run,
  requestAllPositions,
  runsBefore,
} from "../state/run.ts";

/** How often in a row a pipeline goes on by itself; then a person looks at it. */
const inARowMax = 8;

/** What the agent of a run that goes on after a quota is told before its prompt. */
export const afterQuota = (run: number): string =>
  `Continue what run ${run} was asked to do. It was ended in the middle, because its model's service took no more requests for a while:`;

/**
 * A run whose model's service takes no more requests goes on by itself, as a new run on top of what it
 * has pushed. Which agent of its list takes it, and when, is decided when it is claimed.
 */
export async function continueAfterPause(
  tx: Tx,
  daemon: Daemon,
  run: Run,
  pause: NonNullable<Settle["quota"]> & { code: PausingCode },
) {
  await pauseAgents(tx, daemon, pause);
  await requestAllPositions(tx);
  tx.wake("queue");
  const pipeline = await findPipeline(tx, run.pipelineId);
  if (pipeline?.state !== "open" || run.cancelledBy) return;
  // What it is told besides, that it goes on for another, is composed when its own turn comes.
  const again = run.origin.by === "quota";
  const prompt = again ? run.prompt : (run.composed ?? run.prompt);
  const [waiting] = await openRuns(tx, run.pipelineId);
  // Somebody has asked for the next run already: that does both.
  if (waiting)
    return await extendRequest(
      tx,
      waiting,
      `${waiting.prompt}\n\nBut first:\n\n${afterQuota(run.number)}\n\n${prompt}`,
    );
  if ((await inARow(tx, run)) >= inARowMax)
    return await reply(tx, run, "quota", {
      kind: "quota_given_up",
      run: run.number,
      times: inARowMax,
    });
  await enqueueAfter(tx, run, {
    kind: "continue",
    prompt,
    requestedBy: run.requestedBy,
    origin: { by: "quota", first: firstOrigin(run.origin) },
    priority: pipeline.priority,
  });
}

/** How many runs in a row, this one included, went on for another. */
async function inARow(tx: Tx, run: Run): Promise<number> {
  if (run.origin.by !== "quota") return 0;
  const before = await runsBefore(tx, run, inARowMax);
  const first = before.findIndex(({ origin }) => origin.by !== "quota");
  return 1 + (first < 0 ? before.length : first);
}

/**
 * Messages that no agent heard are not lost: they are the next, corrective run; where the run was stopped
 * or its daemon is gone, whoever wrote them is told.
 */
export async function carryOverMessages(tx: Tx, run: Run) {
  if (!isOver(run.state)) return;
  const left = await messagesAfter(tx, run.id, await lastMessageHeard(tx, run.id, run.attempt));
  const [first] = left;
  const pipeline = await findPipeline(tx, run.pipelineId);
  if (!first || !pipeline) return;
  const goesOn = ["succeeded", "failed", "timed_out"].includes(run.state);
  const answer = { kind: "unheard" as const, by: first.by, run: run.number };
  if (!goesOn || pipeline.state !== "open" || run.cancelledBy)
    return await reply(tx, run, "unheard", { ...answer, next: null });
  const next = await enqueueAfter(tx, run, {
    kind: "fix",
    prompt: left.map(({ text }) => text).join("\n\n"),
    requestedBy: first.by,
    origin: { by: "unheard" },
    priority: pipeline.priority,
  });
  await reply(tx, run, "unheard", { ...answer, next: next.number });
}

async function reply(tx: Tx, run: Run, about: string, words: Reply) {
  const { workspace, repository, thread } = run;
  const wanted = { kind: "reply" as const, repository, issue: thread, reply: words };
  await requestOnce(tx, { workspace, subject: `${about}:${run.id}`, wanted });
}
