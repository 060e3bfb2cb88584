import type { Logger } from "pino";
import type { Workspace } from "../github/app.ts";
import type { Parts as IntentParts } from "../intents/intent.ts";
import type { Report } from "../state/report.ts";
import type { Run } from "../state/run.ts";
import type { Links } from "../view/comment-body.ts";

export type Parts = IntentParts & { log: Logger; links: Links };

/** One report's turn to be made true. */
export type Turn = Parts & { workspace: Workspace; report: Report; now: number };

/** Nothing is wrong; it is looked at again at `dueAt`. */
export class NotYet extends Error {
  readonly dueAt: number;
  constructor(dueAt: number) {
    super("not yet");
    this.dueAt = dueAt;
  }
}

/**
 * When an object that only shows progress may be written again: the longer a run lasts, the longer it
 * takes, by a part of its age, between a least and a most.
 */
export function progressAt(
  run: Run,
  now: number,
  pace: { leastMs: number; mostMs: number; part: number },
): number {
  const age = now - (run.startedAt ?? run.createdAt);
  return now + Math.min(pace.mostMs, Math.max(pace.leastMs, age * pace.part));
}
