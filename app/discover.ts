import type { Logger } from "pino";
import type { Parts } from "./answer.ts";
import { hashOf } from "./database.ts";
import { startScheduled } from "./intent.ts";
import {
  allSchedules,
  firedBetween,
  forgetSchedules,
  recordLook,
  refreshSchedules,
  type ScheduleRow,
} from "./schedule.ts";
import type { Schedule } from "./schema.ts";
import { readConfig } from "./trimo-yml.ts";
import { recordWorkspace } from "./workspace.ts";

const lookEveryMs = 20_000;
/** All repositories are read anew this often; a push that changes trimo.yml is heard at once. */
const refreshEveryMs = 6 * 3_600_000;

type Watch = Parts & { log: Logger };

/** Finds work at the times that repositories' trimo.yml set, until `signal` aborts. */
export async function runSchedules(parts: Watch, signal: AbortSignal) {
  const { clock, log } = parts;
  for (let refreshed = 0; !signal.aborted; ) {
    try {
      if (clock.now() - refreshed >= refreshEveryMs) {
        await refreshAll(parts);
        refreshed = clock.now();
      }
      await fireDue(parts);
    } catch (error) {
      log.error({ err: error }, "schedules could not be looked at; again in a moment");
    }
    await clock.sleep(lookEveryMs, signal);
  }
}

/** What GitHub says of every installation, and each repository's set times. */
async function refreshAll(parts: Watch) {
  const { github, db } = parts;
  for (const { id, account, suspended } of await github.installations()) {
    const state = suspended ? "suspended" : "active";
    await db.write((tx) => recordWorkspace(tx, { id, account, state }));
    if (suspended) continue;
    for (const repository of await github.workspace(id).repositories())
      if (repository.archived) await forgetSchedules(parts, [repository.id]);
      else await refreshSchedules(parts, id, repository);
  }
}

/** Each firing that is due, once. */
export async function fireDue(parts: Watch) {
  const now = parts.clock.now();
  for (const row of await allSchedules(parts.db)) {
    for (const source of row.sources) {
      const fired = firedBetween(source.schedule, row.lookedAt, now);
      if (fired !== null) await fire(parts, row, source, fired);
    }
    await parts.db.write((tx) => recordLook(tx, row.repositoryId, now));
  }
}

async function fire(parts: Watch, row: ScheduleRow, source: Schedule, at: number) {
  const { workspace, repository: fullName, defaultBranch, repositoryId } = row;
  const repository = { id: repositoryId, fullName, defaultBranch };
  const { config, mistakes } = await readConfig(parts, { workspace, repository });
  if (mistakes.length > 0) return;
  const found = await parts.github.workspace(workspace).search(fullName, source.query, 100);
  const which = hashOf(JSON.stringify(source)).slice(0, 12);
  let started = 0;
  for (const issue of found) {
    if (started >= source.most) return;
    const place = {
      kind: "schedule" as const,
      key: `schedule:${repositoryId}:${which}:${at}:${issue.number}`,
      workspace,
      repository,
      thread: issue.number,
      sender: "schedule",
    };
    const full = { ...issue, open: true, isPull: false };
    if (await startScheduled(parts, place, full, config, source.agent)) started += 1;
  }
}
