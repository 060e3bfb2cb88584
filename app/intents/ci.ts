import type { Logger } from "pino";
import type { CiEvent } from "../github/github-event.ts";
import { readRepositoryConfig } from "../github/repository-config.ts";
import { isolated, type RunningState } from "../protocol/running-state.ts";
import type { Reads, Tx } from "../state/database.ts";
import type { FailedCi } from "../state/failed-ci.ts";
import { firstOrigin } from "../state/origin.ts";
import {
  clearFailedCi,
  findByBranch,
  idleWithFailedCi,
  type Pipeline,
  recordFailedCi,
} from "../state/pipeline.ts";
import { openRuns, runsOf } from "../state/run.ts";
import type { Wake } from "../state/wake.ts";
import { stateOfWorkspace } from "../state/workspace.ts";
import { answered, type Effect, type Parts, type Source } from "./intent.ts";
import { bareRequest, requestRun } from "./request-run.ts";
import { Retries } from "./retries.ts";

/** How long until failed CI is looked at without a wake, in milliseconds. */
const lookEveryMs = 60_000;
/** How long it waits that could not be taken up. */
const again = { baseMs: 60_000, mostMs: 3_600_000 };

/** CI failed on a pipeline's own commits: a corrective run by itself where trimo.yml says so, else an offer. */
export async function ci(parts: Parts, guid: string, event: CiEvent) {
  if (!event.failed) return;
  const pipeline = await findByBranch(parts.db.read, event.repository.id, event.branch);
  // The opening commit is the base's tree: what fails there is not a run's doing.
  if (!pipeline || pipeline.openingSha === event.sha) return;
  const { sha, app, repository } = event;
  const { defaultBranch } = repository;
  const open = await openRuns(parts.db.read, pipeline.id);
  // The usual case: a commit is pushed minutes before its run ends.
  if (open.length > 0)
    return await parts.db.write((tx) => defer(tx, pipeline.id, { app, sha, defaultBranch }));
  if (pipeline.headSha !== sha) return;
  // Handled again by the inbox when a run was asked for meanwhile; then it is deferred.
  await takeUp(parts, guid, { pipeline, app, sha, repository });
}

/** The newest that failed: at the run's end it counts if it is still of the branch's head. */
async function defer(tx: Tx, id: string, failed: FailedCi) {
  await recordFailedCi(tx, id, failed);
  // The run may have ended just now.
  tx.wake("queue");
}

type Watch = Parts & { wake: Wake; log: Logger };

/** Takes up CI that failed while a run was under way, when that has ended, until `state` stops. */
export async function takeUpFailedCi(parts: Watch, state: RunningState) {
  const { db, wake, log } = parts;
  const onQueue = () => state.wake();
  wake.on("queue", onQueue);
  const looked = { message: "failed CI could not be looked at; tried again in a minute" };
  const retries = new Retries<string>(parts.clock, again);
  while (state.running) {
    const seen = state.wakes;
    await isolated(log, looked, async () => {
      for (const pipeline of await idleWithFailedCi(db.read)) {
        if (!retries.isDue(pipeline.id)) continue;
        if ((await stateOfWorkspace(db.read, pipeline.workspace)) !== "active") continue;
        retries.tried(pipeline.id, await takeUpDeferred(parts, pipeline));
      }
    });
    await state.sleepUnlessWoken(seen, lookEveryMs);
  }
  wake.off("queue", onQueue);
}

/** False: it could not be taken up now. */
async function takeUpDeferred(parts: Watch, pipeline: Pipeline): Promise<boolean> {
  const { failedCi, repository: fullName, repositoryId, id } = pipeline;
  if (!failedCi) return true;
  const { app, sha, defaultBranch } = failedCi;
  const about = { message: "failed CI could not be taken up; tried again later", app, sha };
  return await isolated(parts.log, about, async () => {
    if (pipeline.headSha === sha && pipeline.openingSha !== sha) {
      const repository = { id: repositoryId, fullName, defaultBranch };
      await takeUp(parts, `ci:${id}:${sha}:${app}`, { pipeline, app, sha, repository });
    }
    // What failed meanwhile stays.
    await parts.db.write((tx) => clearFailedCi(tx, id, failedCi));
  });
}

type Failed = { pipeline: Pipeline; app: string; sha: string; repository: CiEvent["repository"] };

async function takeUp(parts: Parts, key: string, { pipeline, app, sha, repository }: Failed) {
  const { workspace } = pipeline;
  const { config, mistakes } = await readRepositoryConfig(parts.github, { workspace, repository });
  const found = config.discover?.find((one) => "ci" in one);
  const runsMax = mistakes.length === 0 && found ? found.most : null;
  const source: Source = {
    kind: "ci",
    key,
    workspace,
    repository,
    thread: pipeline.pullNumber ?? pipeline.issue,
    sender: app,
    request: { type: "ci", app, sha },
  };
  const request = bareRequest("fix", { by: "ci", app });
  const { defaultBranch } = repository;
  const failed = { app, sha, defaultBranch };
  const unless = async (tx: Tx, current: Pipeline) => {
    const instead = await insteadOfRun(tx, current, failed, runsMax);
    // Nothing is stored of it: it is taken up at that run's end, under the same key.
    if (instead === "later") throw new Error("a run was asked for meanwhile");
    return instead;
  };
  const target = { pipelineId: pipeline.id, unless };
  await requestRun(parts, source, { request, target, config });
}

/**
 * What is done when CI starts no run; null: it starts one; later: a run is under way. `runsMax`: null,
 * trimo.yml asks for none.
 */
async function insteadOfRun(
  tx: Tx,
  pipeline: Pipeline,
  failed: FailedCi,
  runsMax: number | null,
): Promise<Effect | "later" | null> {
  const { app, sha } = failed;
  if (pipeline.headSha !== sha || !(await isRunsCommit(tx, pipeline, sha))) return answered(null);
  if ((await openRuns(tx, pipeline.id)).length > 0) return "later";
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
