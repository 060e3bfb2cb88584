import type { LabelEvent } from "../github/github-event.ts";
import { isBot } from "../github/objects.ts";
import { readRepositoryConfig } from "../github/repository-config.ts";
import { holdLabel, labelIntent, nowLabel } from "../protocol/trimo-yml.ts";
import { findOpen, findPipeline, hold, prioritise } from "../state/pipeline.ts";
import { openRuns, recordPriority, requestPositions, requestShown } from "../state/run.ts";
import { authorize, refuse } from "./authorize.ts";
import { answer, type Parts, type Source, sourceOf } from "./intent.ts";
import { answerMistakes } from "./mistakes.ts";
import { bareRequest, requestRun, steeredBy } from "./request-run.ts";
import { issuePrompt } from "./spoken.ts";

/** A label was put on or taken off: a run is enqueued, or its pipeline held or expedited. */
export async function label(parts: Parts, guid: string, event: LabelEvent) {
  if (isBot(event.sender)) return;
  const name = event.label.toLowerCase();
  if (name === nowLabel || name === holdLabel) return await steer(parts, event);
  if (event.type === "unlabeled") return;
  const { config, mistakes } = await readRepositoryConfig(parts.github, event);
  const intent = labelIntent(event.label, config);
  if (!intent) return;
  const { issue } = event;
  const source: Source = {
    ...sourceOf("label", guid, event, {
      thread: issue.number,
      request: { type: "label", label: event.label },
    }),
    ...(event.at === null ? {} : { said: { at: event.at, commentId: null } }),
  };
  const kind = issue.isPull ? ("fix" as const) : ("run" as const);
  const rights = await authorize(parts, source, kind, config);
  if (!rights.allowed) return await refuse(parts, source, kind, rights);
  if (mistakes.length > 0) return await answerMistakes(parts, source, mistakes);
  if (!issue.open)
    return await answer(parts, source, {
      kind: "closed",
      what: issue.isPull ? "pull" : "issue",
      label: true,
    });
  const request = {
    ...bareRequest(kind, { by: "label", label: event.label }),
    ...intent,
    prompt: issuePrompt(issue),
    askedAt: event.at,
  };
  await requestRun(parts, source, { request, target: { issue }, config });
}

/**
 * The two labels that steer the queue: what they say holds while they are on the pipeline's issue or pull
 * request. GitHub is asked which are on: events come late, twice and in another order.
 */
async function steer({ db, github }: Parts, event: LabelEvent) {
  const found = await findOpen(db.read, event.repository.id, event.issue.number);
  if (!found) return;
  const installation = github.installation(event.workspace);
  const threads = new Set([found.issue, found.pullNumber ?? found.issue]);
  const labels: string[] = [];
  for (const thread of threads)
    labels.push(...(await installation.labels(event.repository.fullName, thread)));
  const { held, priority } = steeredBy(labels);
  await db.write(async (tx) => {
    const pipeline = await findPipeline(tx, found.id);
    if (pipeline?.state !== "open") return;
    if (pipeline.held === held && pipeline.priority === priority) return;
    if (pipeline.held !== held) await hold(tx, pipeline.id, held);
    if (pipeline.priority !== priority) {
      await prioritise(tx, pipeline.id, priority);
      await recordPriority(tx, pipeline.id, priority);
    }
    for (const run of await openRuns(tx, pipeline.id)) await requestShown(tx, run, true);
    await requestPositions(tx, pipeline.workspace);
  });
}
