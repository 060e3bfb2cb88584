import type { Logger } from "pino";
import type { GitHub } from "../github/app.ts";
import { forgetOldDeliveries, knownDeliveries } from "../inbound/listen.ts";
import type { Clock } from "../protocol/clock.ts";
import type { Database, Tx } from "../state/database.ts";
import { ended, release } from "../state/lease.ts";
import { endPauses, pausesNow } from "../state/pause.ts";
import {
  anyQueued,
  endCancelled,
  findRun,
  loseRun,
  move,
  type Run,
  wantAllPlaces,
  wantPlaces,
} from "../state/run.ts";
import type { Wake } from "../state/wake.ts";
import { carryOver } from "./unheard.ts";

const leasesEveryMs = 5_000;
const deliveriesEveryMs = 5 * 60_000;
/** GitHub can redeliver what is at most three days old. */
const redeliverableMs = 3 * 24 * 3_600_000;
/** Attempts at one delivery, GitHub's first among them. */
const triesMax = 5;
/** A run that could not be started this often is given up. */
const attemptsMax = 3;

type Parts = { db: Database; github: GitHub; clock: Clock; wake: Wake; log: Logger };

/** Finds ended leases until `signal` aborts. */
export async function sweepLeases(parts: Parts, signal: AbortSignal) {
  while (!signal.aborted) {
    await guarded(parts.log, "leases", () => endLeases(parts));
    await guarded(parts.log, "pauses", () => resume(parts));
    await guarded(parts.log, "waiting", () => wakeWaiting(parts));
    await parts.clock.sleep(leasesEveryMs, signal);
  }
}

/** Asks GitHub for deliveries that never came, at the start and every five minutes. */
export async function sweepDeliveries(parts: Parts, signal: AbortSignal) {
  while (!signal.aborted) {
    await guarded(parts.log, "deliveries", () => recoverDeliveries(parts));
    await guarded(parts.log, "retention", () => forgetOldDeliveries(parts.db, parts.clock.now()));
    await parts.clock.sleep(deliveriesEveryMs, signal);
  }
}

/** What never started goes back to the queue; what had started is lost, and can be continued. */
export async function endLeases({ db, clock, wake, log }: Parts) {
  const at = clock.now();
  const over = await ended(db.read, at);
  for (const { runId, attempt } of over) {
    const changed = await endLease(runId, attempt).catch((error) => {
      // One run that cannot be read must not keep the others' leases from ending.
      log.error({ err: error, run: runId }, "a lease could not be ended");
      return null;
    });
    if (!changed) continue;
    wake.emit("run", runId);
    wake.emit("reports", changed.workspace);
    wake.emit("queue");
  }

  async function heard(tx: Tx, run: Run | null) {
    if (run) await carryOver(tx, at, run);
    return run;
  }
  async function endLease(runId: string, attempt: number) {
    return await db.write(async (tx) => {
      const again = (await ended(tx, at)).find((lease) => lease.runId === runId);
      const run = await findRun(tx, runId);
      if (!again || !run || run.attempt !== attempt) return null;
      await release(tx, runId);
      if (run.state !== "claimed" && run.state !== "running") return null;
      await wantPlaces(tx, at, run.workspace);
      // Its machine is away; it is told when it is back, and what it sends then is only rescued work.
      if (run.cancelledBy) return await heard(tx, await endCancelled(tx, at, run, run.cancelledBy));
      if (run.state === "running") {
        const why = `${run.daemon} was not heard of until its lease ended.`;
        return await heard(tx, await loseRun(tx, at, run, why));
      }
      if (run.attempt >= attemptsMax)
        return await loseRun(tx, at, run, `${run.attempt} attempts ended before they started.`);
      const why = `${run.daemon} was not heard of before it started`;
      return await move(tx, at, run, "queued", { daemon: null }, { type: "requeued", why });
    });
  }
}

/** Leaves a run to the machine that had its pipeline last only so long. */
async function wakeWaiting({ db, wake }: Pick<Parts, "db" | "wake">) {
  if (await anyQueued(db.read)) wake.emit("queue");
}

/** An agent's quota is back: whoever waits for it begins. */
export async function resume({ db, clock, wake }: Pick<Parts, "db" | "clock" | "wake">) {
  const at = clock.now();
  if ((await pausesNow(db.read, 0)).every(({ until }) => until > at)) return;
  const workspaces = await db.write(async (tx) => {
    if (!(await endPauses(tx, at))) return [];
    return await wantAllPlaces(tx, at);
  });
  for (const workspace of workspaces) wake.emit("reports", workspace);
  wake.emit("queue");
}

/**
 * A delivery whose every attempt failed and that is not in the inbox is asked for again. One that is
 * just being stored may come a second time: its number is known then.
 */
export async function recoverDeliveries({ db, github, clock, log }: Parts) {
  const now = clock.now();
  const all = await github.deliveries(now - redeliverableMs);
  const succeeded = new Set(all.filter((row) => row.ok).map((row) => row.guid));
  const missed = new Map<string, number>();
  for (const row of all) if (!succeeded.has(row.guid)) missed.set(row.guid, row.id);
  // One that this app refuses each time, for a wrong secret, is not asked for without end.
  for (const guid of missed.keys())
    if (all.filter((row) => row.guid === guid).length >= triesMax) missed.delete(guid);
  const known = await knownDeliveries(db, [...missed.keys()]);
  for (const [guid, id] of missed) {
    if (known.has(guid)) continue;
    log.warn({ delivery: guid }, "a delivery never arrived: asking GitHub to send it again");
    await github.redeliver(id);
  }
}

async function guarded(log: Logger, what: string, work: () => Promise<void>) {
  try {
    await work();
  } catch (error) {
    log.error({ err: error, sweep: what }, "a sweep failed; it runs again at its next turn");
  }
}
