import type { Logger } from "pino";
import type { Repository } from "../github/objects.ts";
import { readRepositoryConfig } from "../github/repository-config.ts";
import { isolated, type RunningState } from "../protocol/running-state.ts";
import { hashOf } from "../state/identity.ts";
import { hadPipeline } from "../state/pipeline.ts";
import {
  allSchedules,
  forgetSchedules,
  recordLook,
  recordSchedules,
  type ScheduleRow,
} from "../state/schedule.ts";
import type { Schedule } from "../state/schema.ts";
import { recordWorkspace, stateOfWorkspace } from "../state/workspace.ts";
import { firedBetween } from "../text/times.ts";
import type { Parts, Source } from "./intent.ts";
import { bareRequest, requestRun, unknownAgent } from "./request-run.ts";
import { issuePrompt } from "./spoken.ts";

const lookEveryMs = 20_000;
/** All repositories are read anew this often; a push that changes trimo.yml is heard at once. */
const refreshEveryMs = 6 * 3_600_000;
/** The most issues of one search. */
const foundMax = 100;

type Watch = Parts & { log: Logger };

/** Finds work at the times that repositories' trimo.yml set, until `state` stops. */
export async function runSchedules(parts: Watch, state: RunningState) {
  const { clock, log } = parts;
  const failed = { message: "schedules could not be looked at; tried again in 20 s" };
  for (let refreshed = 0; state.running; ) {
    await isolated(log, failed, async () => {
      if (clock.now() - refreshed >= refreshEveryMs) {
        refreshed = clock.now();
        await refreshAll(parts);
      }
      await fireDue(parts);
    });
    await state.sleep(lookEveryMs);
  }
}

/** Reads every installation, and each repository's schedules, anew. */
async function refreshAll(parts: Watch) {
  const { github, db, log } = parts;
  const all = await github.installations();
  // At once: what a webhook says while the repositories are read is newer.
  await db.write(async (tx) => {
    for (const { id, account, suspended } of all)
      await recordWorkspace(tx, { id, account, state: suspended ? "suspended" : "active" });
  });
  for (const { id, suspended } of all) {
    if (suspended) continue;
    const failed = { message: "a workspace's schedules could not be read", workspace: id };
    await isolated(log, failed, async () => {
      for (const repository of await github.installation(id).repositories())
        if (repository.archived) await db.write((tx) => forgetSchedules(tx, [repository.id]));
        else await refreshSchedules(parts, id, repository);
    });
  }
}

/** Reads a repository's schedules anew; asked when its trimo.yml changed, and now and then. */
export async function refreshSchedules(parts: Parts, workspace: number, repository: Repository) {
  const { config } = await readRepositoryConfig(parts.github, { workspace, repository });
  const sources: Schedule[] = (config.discover ?? []).flatMap((source) =>
    "schedule" in source ? [{ ...source, agent: source.agent ?? null }] : [],
  );
  const { id: repositoryId, fullName, defaultBranch } = repository;
  await parts.db.write(async (tx) => {
    if (sources.length === 0) return await forgetSchedules(tx, [repositoryId]);
    const row = { repositoryId, workspace, repository: fullName, defaultBranch, sources };
    await recordSchedules(tx, row);
  });
}

/** Fires each schedule that is due, once. What GitHub refuses for one repository keeps no other waiting. */
export async function fireDue(parts: Watch) {
  const { db, clock, log } = parts;
  const now = clock.now();
  for (const row of await allSchedules(db.read)) {
    if ((await stateOfWorkspace(db.read, row.workspace)) !== "active") continue;
    for (const source of row.sources) {
      const { repository, lookedAt } = row;
      const fired = firedBetween(source.schedule, lookedAt, now);
      if (fired === null) continue;
      const failed = { message: "a schedule could not be fired", repository };
      await isolated(log, { ...failed, schedule: source.schedule }, () =>
        fire(parts, row, source, fired),
      );
    }
    await db.write((tx) => recordLook(tx, row.repositoryId, now));
  }
}

async function fire(parts: Watch, row: ScheduleRow, schedule: Schedule, at: number) {
  const { workspace, repository: fullName, defaultBranch, repositoryId } = row;
  const repository = { id: repositoryId, fullName, defaultBranch };
  const { config, mistakes } = await readRepositoryConfig(parts.github, { workspace, repository });
  if (mistakes.length > 0) return;
  const installation = parts.github.installation(workspace);
  const found = await installation.search(fullName, schedule.query, foundMax);
  const which = hashOf(JSON.stringify(schedule)).slice(0, 12);
  let started = 0;
  for (const issue of found) {
    if (started >= schedule.most) return;
    const source: Source = {
      kind: "schedule",
      key: `schedule:${repositoryId}:${which}:${at}:${issue.number}`,
      workspace,
      repository,
      thread: issue.number,
      sender: "schedule",
      request: { type: "schedule" },
    };
    // Once tried, it is a person's to try again.
    if (await hadPipeline(parts.db.read, repositoryId, issue.number)) continue;
    if (await unknownAgent(parts.db.read, source, schedule.agent)) continue;
    const request = {
      ...bareRequest("run", { by: "schedule" }),
      agent: schedule.agent,
      prompt: issuePrompt(issue),
    };
    const target = { issue: { ...issue, open: true, isPull: false } };
    await requestRun(parts, source, { request, target, config });
    started += 1;
  }
}
