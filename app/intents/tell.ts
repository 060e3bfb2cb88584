import type { CommentEvent } from "../github/github-event.ts";
import type { Stage } from "../protocol/event.ts";
import { messageMax } from "../protocol/renew.ts";
import { addMessage } from "../state/message.ts";
import { findOpen, type Pipeline } from "../state/pipeline.ts";
import type { NotHeard } from "../state/reply.ts";
import { findRun, openRuns, type Run } from "../state/run.ts";
import { authorize, refuse } from "./authorize.ts";
import {
  acknowledge,
  answer,
  answered,
  type Effect,
  type Parts,
  recordIntent,
  type Source,
} from "./intent.ts";
import { answerMistakes } from "./mistakes.ts";
import { requestRun } from "./request-run.ts";
import { promptOf, requestOf, type Spoken } from "./spoken.ts";

/** The stages in which, or before which, an agent can hear something. */
const hearing: Stage[] = ["preparing", "cloning", "preboot", "agent"];

/** `/trimo tell`: a message for the agent at work; where none can hear it, it becomes the next run. */
export async function tell(parts: Parts, source: Source, spoken: Spoken) {
  const { event, command } = spoken;
  const text = promptOf(event, command);
  if (!text) return await answer(parts, source, { kind: "tell_empty" });
  if (text.length > messageMax)
    return await answer(parts, source, { kind: "tell_too_long", max: messageMax });
  const pipeline = await findOpen(parts.db.read, source.repository.id, event.issue.number);
  const open = pipeline ? await openRuns(parts.db.read, pipeline.id) : [];
  const live = open.find((run) => run.state === "running") ?? null;
  const because = whyNotHeard(live);
  if (!live || because) return await becomesRun(parts, source, spoken, pipeline, because ?? nobody);
  await deliverTo(parts, source, event, live, text);
}

const nobody: NotHeard = { why: "nobody" };

/** Why a run's agent cannot hear a message; null: it can. */
function whyNotHeard(live: Run | null): NotHeard | null {
  if (!live) return nobody;
  if (live.cancelledBy) return { why: "stopping", run: live.number };
  if (!live.acceptsMessages) return { why: "takes_none", agent: live.agent };
  const hears = live.stage === null || hearing.includes(live.stage);
  return hears ? null : { why: "ended", run: live.number };
}

/** It starts a run, so whoever may not do that may not do it in these words either. */
async function becomesRun(
  parts: Parts,
  source: Source,
  { event, command, config, mistakes }: Spoken,
  pipeline: Pipeline | null,
  because: NotHeard,
) {
  const kind = pipeline ? ("fix" as const) : ("run" as const);
  const rights = await authorize(parts, source, kind, config);
  if (!rights.allowed) return await refuse(parts, source, kind, rights);
  if (mistakes.length > 0) return await answerMistakes(parts, source, mistakes);
  const request = {
    ...requestOf(event, command, kind),
    reply: (run: Run) => ({
      kind: "tell_is_run" as const,
      run: run.number,
      first: pipeline === null,
      because,
    }),
  };
  await requestRun(parts, source, { request, target: { issue: event.issue }, config });
}

async function deliverTo(
  parts: Parts,
  source: Source,
  event: CommentEvent,
  live: Run,
  text: string,
) {
  await recordIntent(parts, source, async (tx): Promise<Effect> => {
    await acknowledge(tx, source, event);
    const run = await findRun(tx, live.id);
    if (run?.state !== "running") return answered({ kind: "tell_ended", run: live.number }, live);
    if (!(await addMessage(tx, run.id, { by: source.sender, text })))
      return answered({ kind: "tell_full", run: run.number }, run);
    tx.wake("message", run.daemon ?? "", run.id, run.attempt);
    return answered(null, run);
  });
}
