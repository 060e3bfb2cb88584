import type { Logger } from "pino";
import type { FoundRepository, Repository } from "../github/objects.ts";
import { readRepositoryConfig } from "../github/repository-config.ts";
import { backoffMs } from "../protocol/clock.ts";
import { isolated, type RunningState } from "../protocol/running-state.ts";
import { hashOf } from "../state/identity.ts";
import { countIntents } from "../state/intent.ts";
import { hadPipeline } from "../state/pipeline.ts";
import {
  allSchedules,
  forgetSchedules,
  recordLook,
  recordSchedules,
  type ScheduleRow,
} from "../state/schedule.ts";
import type { Schedule } from "../state/schedule-source.ts";
import { recordWorkspace, stateOfWorkspace } from "../state/workspace.ts";
import { firedBetween } from "../text/times.ts";
import type { Parts, Source } from "./intent.ts";
import { bareRequest, requestRun, unknownAgent } from "./request-run.ts";
import { Retries } from "./retries.ts";
import { issuePrompt } from "./spoken.ts";

const lookEveryMs = 20_000;
/** All repositories are read anew this often; a push that changes trimo.yml is heard at once. */
const refreshEveryMs = 6 * 3_600_000;
/** And again after this, where that failed. */
const refreshAgain = { baseMs: 60_000, mostMs: 3_600_000 };
/** The most issues of one page of a search, and the most pages. */
const foundMax = 100;
const pagesMax = 10;
/** For how long a firing that fails is tried again, and how often, in milliseconds. */
const firedMsMax = 3_600_000;
const fireAgain = { baseMs: 20_000, mostMs: 300_000 };

type Watch = Parts & { log: Logger };

/** Finds work at the times that repositories' trimo.yml set, until `state` stops. */
export async function runSchedules(parts: Watch, state: RunningState) {
  const { clock, log } = parts;
  const failed = { message: "schedules could not be looked at; tried again in 20 s" };
  const retries = new Retries<number>(clock, fireAgain);
  let missing: Missing = "all";
  let failures = 0;
  for (let refreshAt = 0; state.running; ) {
    await isolated(log, failed, async () => {
      const now = clock.now();
      // A clock that was set back must not keep it from being read for hours.
      if (now >= refreshAt || refreshAt - now > refreshEveryMs) {
        failures += 1;
        refreshAt = now + backoffMs(clock, failures, refreshAgain);
        missing = await refreshAll(parts, missing);
        if (missing.size === 0) {
          refreshAt = now + refreshEveryMs;
          failures = 0;
          missing = "all";
        }
      }
    });
    await isolated(log, failed, () => fireDue(parts, retries));
    await state.sleep(lookEveryMs);
  }
}

/** The workspaces that are to be read, by their numbers. */
type Missing = Set<number> | "all";

/** Reads installations, and each of their repositories' schedules, anew; gives those that failed. */
async function refreshAll(parts: Watch, which: Missing): Promise<Set<number>> {
  const { github, db, log } = parts;
  const all = await github.installations();
  // At once: what a webhook says while the repositories are read is newer.
  await db.write(async (tx) => {
    for (const { id, account, suspended } of all)
      await recordWorkspace(tx, { id, account, state: suspended ? "suspended" : "active" });
  });
  const missing = new Set(all.filter(({ suspended }) => !suspended).map(({ id }) => id));
  for (const id of [...missing]) {
    if (which !== "all" && !which.has(id)) {
      missing.delete(id);
      continue;
    }
    const failed = { message: "a workspace's schedules could not be read", workspace: id };
    await isolated(log, failed, async () => {
      let isWhole = true;
      // One that GitHub does not show keeps no other from being read.
      for (const repository of await github.installation(id).repositories())
        isWhole = (await refreshOne(parts, id, repository)) && isWhole;
      if (isWhole) missing.delete(id);
    });
  }
  return missing;
}

/** False: GitHub did not show it. */
async function refreshOne(
  parts: Watch,
  workspace: number,
  repository: FoundRepository,
): Promise<boolean> {
  const about = { repository: repository.fullName, workspace };
  const failed = { message: "a repository's schedules could not be read", ...about };
  return await isolated(parts.log, failed, async () => {
    if (repository.archived) await parts.db.write((tx) => forgetSchedules(tx, [repository.id]));
    else await refreshSchedules(parts, workspace, repository);
  });
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

/**
 * Fires each schedule that is due, once. What GitHub refuses for one repository keeps no other waiting, and is
 * tried again for an hour: a firing has had its effect only when it went through.
 */
export async function fireDue(parts: Watch, retries = new Retries<number>(parts.clock, fireAgain)) {
  const { db, clock } = parts;
  const now = clock.now();
  for (const row of await allSchedules(db.read)) {
    if ((await stateOfWorkspace(db.read, row.workspace)) !== "active") continue;
    const { repositoryId, lookedAt } = row;
    if (!retries.isDue(repositoryId)) continue;
    const isWhole = await fireRow(parts, row, now);
    retries.tried(repositoryId, isWhole);
    // What was missed for longer does not count.
    const upTo = isWhole ? now : Math.max(lookedAt, now - firedMsMax);
    if (upTo > lookedAt) await db.write((tx) => recordLook(tx, repositoryId, upTo));
  }
}

/** Fires what is due of one repository; false: some of it failed. */
async function fireRow(parts: Watch, row: ScheduleRow, now: number): Promise<boolean> {
  let isWhole = true;
  for (const source of row.sources) {
    const fired = firedBetween(source.schedule, row.lookedAt, now);
    if (fired === null) continue;
    const about = { repository: row.repository, schedule: source.schedule };
    const failed = { message: "a schedule could not be fired; tried again for an hour", ...about };
    isWhole = (await isolated(parts.log, failed, () => fire(parts, row, source, fired))) && isWhole;
  }
  return isWhole;
}

async function fire(parts: Watch, row: ScheduleRow, schedule: Schedule, at: number) {
  const { workspace, repository: fullName, defaultBranch, repositoryId } = row;
  const repository = { id: repositoryId, fullName, defaultBranch };
  const { config, mistakes } = await readRepositoryConfig(parts.github, { workspace, repository });
  if (mistakes.length > 0) return;
  const firing = `schedule:${repositoryId}:${hashOf(JSON.stringify(schedule)).slice(0, 12)}:${at}:`;
  // Those of a try before this one, which a kill or GitHub cut short, count.
  let started = await countIntents(parts.db.read, firing);
  for await (const issue of searched(parts, workspace, fullName, schedule.query)) {
    if (started >= schedule.most) return;
    const source: Source = {
      kind: "schedule",
      key: `${firing}${issue.number}`,
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

/** The issues that a search finds, page by page: the first may all have had their run. */
async function* searched(parts: Watch, workspace: number, repository: string, query: string) {
  const installation = parts.github.installation(workspace);
  for (let page = 1; page <= pagesMax; page++) {
    const { issues, more } = await installation.search(repository, query, { page, most: foundMax });
    yield* issues;
    if (!more) return;
  }
}
