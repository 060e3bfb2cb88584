import type { Logger } from "pino";
import type { Clock } from "../protocol/clock.ts";
import { isolated, type RunningState } from "../protocol/running-state.ts";
import type { Database, Tx } from "../state/database.ts";
import { forgetDeliveries } from "../state/delivery.ts";
import { forgetDetails } from "../state/event.ts";
import { forgetIntents } from "../state/intent.ts";
import { markOf, setMark } from "../state/mark.ts";
import { endedBetween } from "../state/run.ts";

// What is old goes, so that the database does not grow for ever: handled deliveries after a week, what was asked
// for and how runs went after `retentionMs`. Runs, their commits, receipts and costs stay.

const everyMs = 3_600_000;
/** So many rows in one transaction, and a pause between two: nobody waits for it. */
const stepRows = 500;
const stepPauseMs = 50;
/** Runs looked for at once. */
const runsMax = 50;

type Parts = { db: Database; clock: Clock; log: Logger; retentionMs: number };

/** Forgets what is old, at the start and each hour, until `state` stops. */
export async function forget(parts: Parts, state: RunningState) {
  while (state.running) {
    const failed = { message: "what is old could not be forgotten; tried again in an hour" };
    await isolated(parts.log, failed, () => forgetOld(parts, state));
    await state.sleep(everyMs);
  }
}

/** Forgets all that is old now, step by step. */
export async function forgetOld({ db, clock, retentionMs }: Parts, state: RunningState) {
  const before = clock.now() - retentionMs;
  const inSteps = async (step: (tx: Tx) => Promise<number>) => {
    while (state.running && (await db.write(step)) === stepRows) await state.sleep(stepPauseMs);
  };
  await inSteps((tx) => forgetDeliveries(tx, stepRows));
  await inSteps((tx) => forgetIntents(tx, before, stepRows));
  while (state.running) {
    const from = (await markOf(db.read, "forgotten")) ?? 0;
    const upTo = (await endedBetween(db.read, from, before, runsMax)).at(-1)?.endedAt;
    if (upTo === undefined) return;
    // All of them: others may have ended in the last one's moment.
    for (const { id } of await endedBetween(db.read, from, upTo))
      await inSteps((tx) => forgetDetails(tx, id, stepRows));
    if (state.running) await db.write((tx) => setMark(tx, "forgotten", upTo));
  }
}
