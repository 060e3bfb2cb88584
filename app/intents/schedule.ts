import type { Logger } from "pino";
import { hashOf } from "../state/database.ts";
import {
  allSchedules,
  forgetSchedules,
  recordLook,
  refreshSchedules,
  type ScheduleRow,
} from "../state/schedule.ts";
import type { Schedule } from "../state/schema.ts";
import { recordWorkspace, stateOfWorkspace } from "../state/workspace.ts";
import { firedBetween } from "../text/times.ts";
import { readConfig } from "../text/trimo-yml.ts";
import type { Parts } from "./intent.ts";
import { startScheduled } from "./request-run.ts";

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
        refreshed = clock.now();
        await refreshAll(parts);
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
  const all = await github.installations();
  // At once: what a webhook says while the repositories are read is newer.
  await db.write(async (tx) => {
    for (const { id, account, suspended } of all)
      await recordWorkspace(tx, { id, account, state: suspended ? "suspended" : "active" });
  });
  for (const { id, suspended } of all) {
    if (suspended) continue;
    await aside(parts, { workspace: id }, async () => {
      for (const repository of await github.workspace(id).repositories())
        if (repository.archived) await forgetSchedules(parts, [repository.id]);
        else await refreshSchedules(parts, id, repository);
    });
  }
}

/** Each firing that is due, once. */
export async function fireDue(parts: Watch) {
  const now = parts.clock.now();
  for (const row of await allSchedules(parts.db)) {
    if ((await stateOfWorkspace(parts.db.read, row.workspace)) !== "active") continue;
    for (const source of row.sources) {
      const fired = firedBetween(source.schedule, row.lookedAt, now);
      if (fired === null) continue;
      const about = { repository: row.repository, schedule: source.schedule };
      await aside(parts, about, () => fire(parts, row, source, fired));
    }
    await parts.db.write((tx) => recordLook(tx, row.repositoryId, now));
  }
}

/** What GitHub refuses for one repository must not keep the others from their turn. */
async function aside({ log }: Watch, about: object, work: () => Promise<void>) {
  try {
    await work();
  } catch (error) {
    log.error({ ...about, err: error }, "a schedule could not be read or fired");
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
