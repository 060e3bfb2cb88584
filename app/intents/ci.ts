import type { CiEvent } from "../github/github-event.ts";
import { readRepositoryConfig } from "../github/repository-config.ts";
import type { Reads, Tx } from "../state/database.ts";
import { firstOrigin } from "../state/origin.ts";
import { findByBranch, type Pipeline } from "../state/pipeline.ts";
import { openRuns, runsOf } from "../state/run.ts";
import { answered, type Effect, type Parts, type Source, sourceOf } from "./intent.ts";
import { bareRequest, requestRun } from "./request-run.ts";

/** CI failed on a pipeline's own commits: a corrective run by itself where trimo.yml says so, else an offer. */
export async function ci(parts: Parts, guid: string, event: CiEvent) {
  if (!event.failed) return;
  const pipeline = await findByBranch(parts.db.read, event.repository.id, event.branch);
  // The opening commit is the base's tree: what fails there is not a run's doing.
  if (!pipeline || pipeline.headSha !== event.sha || pipeline.openingSha === event.sha) return;
  const { config, mistakes } = await readRepositoryConfig(parts.github, event);
  const found = config.discover?.find((one) => "ci" in one);
  const runsMax = mistakes.length === 0 && found ? found.most : null;
  const { app, sha } = event;
  const source: Source = {
    ...sourceOf("ci", guid, event, {
      thread: pipeline.pullNumber ?? pipeline.issue,
      request: { type: "ci", app, sha },
    }),
    sender: app,
  };
  const request = bareRequest("fix", { by: "ci", app });
  const unless = (tx: Tx, current: Pipeline) => insteadOfRun(tx, current, event, runsMax);
  const target = { pipelineId: pipeline.id, unless };
  await requestRun(parts, source, { request, target, config });
}

/** What is done when CI starts no run; null: it starts one. `runsMax`: null, trimo.yml asks for none. */
async function insteadOfRun(
  tx: Tx,
  pipeline: Pipeline,
  { app, sha }: CiEvent,
  runsMax: number | null,
): Promise<Effect | null> {
  if (pipeline.headSha !== sha || !(await isRunsCommit(tx, pipeline, sha))) return answered(null);
  const [open] = await openRuns(tx, pipeline.id);
  if (open) return answered(null, open);
  const runs = await startedByCi(tx, pipeline);
  if (runsMax !== null && runs < runsMax) return null;
  return {
    outcome: "offered",
    run: null,
    reply: { kind: "ci_offer", app, sha, runs: runsMax === null ? null : runs },
    once: `ci:${pipeline.id}:${sha}`,
  };
}

/** Whether a commit is a run's own: people's are theirs to fix. */
async function isRunsCommit(tx: Reads, pipeline: Pipeline, sha: string): Promise<boolean> {
  return (await runsOf(tx, pipeline.id)).some((run) => run.changed && run.headSha === sha);
}

/** How many runs CI has started on a pipeline since a person last asked for one. */
async function startedByCi(tx: Reads, pipeline: Pipeline): Promise<number> {
  const newestFirst = (await runsOf(tx, pipeline.id)).reverse();
  const byOthers = newestFirst.findIndex((run) => firstOrigin(run.origin).by !== "ci");
  const own = byOthers < 0 ? newestFirst : newestFirst.slice(0, byOthers);
  // One that goes on for another is the same attempt.
  return own.filter((run) => run.origin.by === "ci").length;
}
