import type { Logger } from "pino";
import type { GitHub } from "../github/app.ts";
import type { Installation } from "../github/installation.ts";
import type { Permissions } from "../github/permission.ts";
import type { Clock } from "../protocol/clock.ts";
import type { Database } from "../state/database.ts";
import type { Report } from "../state/report.ts";
import type { Run } from "../state/run.ts";
import type { Wake } from "../state/wake.ts";
import type { Links } from "../view/comment-body.ts";

/** What every writer of reports needs. */
export type ReportParts = {
  db: Database;
  github: GitHub;
  permissions: Permissions;
  clock: Clock;
  wake: Wake;
  log: Logger;
  links: Links;
  /** How long GitHub's refusals are not believed, in milliseconds. */
  patienceMs: number;
};

/** One report's turn to be made true. */
export type Turn = ReportParts & {
  /** GitHub, at the workspace's pace. */
  installation: Installation;
  report: Report;
  /** In milliseconds since 1970. */
  now: number;
};

/**
 * What a writer did, with times in milliseconds since 1970: the object is as it should be and need not be
 * written again before `notBefore`, or it is `later` to be looked at again.
 */
export type Written = { notBefore: number } | { later: number };

/** The object is as it should be, and may be written again at once. */
export const done = ({ now }: Pick<Turn, "now">): Written => ({ notBefore: now });

/** How often an object that only shows progress is written: by a part of its run's age, within bounds. */
type Progress = { leastMs: number; mostMs: number; part: number };

/** When such an object may be written again: the longer its run lasts, the longer that takes. */
export function progressAt(run: Run, now: number, { leastMs, mostMs, part }: Progress): Written {
  const age = now - (run.startedAt ?? run.createdAt);
  return { notBefore: now + Math.min(mostMs, Math.max(leastMs, age * part)) };
}

/** By how much the app's clock may differ from GitHub's, in milliseconds. */
const clockDriftMs = 24 * 3_600_000;

/** Since when, by GitHub's clock, a comment may have been made whose creation was not answered; ISO 8601. */
export function madeSince({ triedAt, dueAt }: Report): string {
  return new Date((triedAt ?? dueAt) - clockDriftMs).toISOString();
}
