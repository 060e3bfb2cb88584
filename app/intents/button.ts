import type { ButtonEvent } from "../github/github-event.ts";
import { readRepositoryConfig } from "../github/repository-config.ts";
import { findPipeline } from "../state/pipeline.ts";
import { findRun, findRunAt } from "../state/run.ts";
import { authorize, refuse } from "./authorize.ts";
import { answer, type Parts, sourceOf } from "./intent.ts";
import { answerMistakes } from "./mistakes.ts";
import { bareRequest, requestRun } from "./request-run.ts";

const kinds = { again: "retry", fix: "fix", continue: "continue" } as const;

/** A button of a completed check run, or its *Re-run*, was pressed: a run on that check's pipeline. */
export async function button(parts: Parts, guid: string, event: ButtonEvent) {
  const { db } = parts;
  const run = event.run ? await findRun(db.read, event.run) : await findRunAt(db.read, event.sha);
  const pipeline = run && (await findPipeline(db.read, run.pipelineId));
  if (!run || !pipeline || pipeline.repositoryId !== event.repository.id) return;
  const source = sourceOf("button", guid, event, {
    thread: run.thread,
    request: { type: "button", button: event.button },
  });
  const kind = kinds[event.button];
  const { config, mistakes } = await readRepositoryConfig(parts.github, event);
  const rights = await authorize(parts, source, kind, config);
  if (!rights.allowed) return await refuse(parts, source, kind, rights);
  if (mistakes.length > 0) return await answerMistakes(parts, source, mistakes);
  if (pipeline.state !== "open")
    return await answer(parts, source, { kind: "pipeline_ended", now: false });
  const request = bareRequest(kind, { by: "button", button: event.button });
  await requestRun(parts, source, { request, target: { pipelineId: pipeline.id }, config });
}
