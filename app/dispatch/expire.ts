import type { Logger } from "pino";
import type { Clock } from "../protocol/clock.ts";
import { isolated, type RunningState } from "../protocol/running-state.ts";
import type { Database, Tx } from "../state/database.ts";
import { hastenDeliveries } from "../state/delivery.ts";
import { expiredLeases, type Lease, release, renewAll } from "../state/lease.ts";
import { endPauses, pausesAt } from "../state/pause.ts";
import { hastenReports } from "../state/report.ts";
import {
  anyQueued,
  endCancelled,
  findRun,
  loseRun,
  move,
  type Run,
  requestAllPositions,
  requestPositions,
} from "../state/run.ts";
import type { Wake } from "../state/wake.ts";
import { carryOverMessages } from "./continuation.ts";

const everyMs = 5_000;
/** A turn that is later than this, in milliseconds, was held up: no daemon could renew meanwhile. */
const lateMsMax = 15_000;
/** A run that could not be started this often is given up. */
const attemptsMax = 3;

type Parts = { db: Database; clock: Clock; wake: Wake; log: Logger };

/** Ends what has expired, leases and pauses, every five seconds until `state` stops. */
export async function expire(parts: Parts, state: RunningState) {
  const { log } = parts;
  const again = "tried again in 5 s";
  let lookedAt: number | null = null;
  while (state.running) {
    const now = parts.clock.now();
    // At the start, after a pause of this process, and when its clock was moved either way.
    const isSetBack = lookedAt !== null && now < lookedAt;
    const missed = lookedAt === null || isSetBack || now - lookedAt > everyMs + lateMsMax;
    lookedAt = now;
    if (missed)
      await isolated(log, { message: "leases could not be renewed after a pause" }, async () => {
        await parts.db.write(renewAll);
      });
    if (isSetBack)
      await isolated(log, { message: "what waits could not be hastened" }, async () => {
        await parts.db.write(async (tx) => {
          await hastenDeliveries(tx);
          await hastenReports(tx);
        });
      });
    await isolated(log, { message: `expired leases could not be ended; ${again}` }, () =>
      endExpiredLeases(parts),
    );
    await isolated(log, { message: `pauses could not be ended; ${again}` }, () =>
      endExpiredPauses(parts),
    );
    await isolated(log, { message: `the queue could not be looked at; ${again}` }, () =>
      wakeWaiting(parts),
    );
    await state.sleep(everyMs);
  }
}

/** Runs that never started go back to the queue; those that had started are lost, and can be continued. */
export async function endExpiredLeases({ db, clock, log }: Omit<Parts, "wake">) {
  // One run that cannot be read must not keep the others' leases from ending.
  for (const lease of await expiredLeases(db.read, clock.now()))
    await isolated(log, { message: "a lease could not be ended", run: lease.runId }, async () => {
      await db.write((tx) => endLease(tx, lease));
    });
}

async function endLease(tx: Tx, lease: Lease) {
  const isExpired = (await expiredLeases(tx, tx.now)).some(({ runId }) => runId === lease.runId);
  if (isExpired) await endHeld(tx, lease);
}

/** Ends a lease whose daemon has the run no more: what has not started goes back to the queue, the rest is lost. */
export async function endHeld(tx: Tx, { runId, attempt }: Lease) {
  const run = await findRun(tx, runId);
  if (!run || run.attempt !== attempt) return;
  await release(tx, runId);
  const ended = await endSilent(tx, run);
  if (ended) await carryOverMessages(tx, ended);
}

/** The run's daemon has been silent for too long; null: the run had ended before. */
async function endSilent(tx: Tx, run: Run): Promise<Run | null> {
  if (run.state !== "claimed" && run.state !== "running") return null;
  await requestPositions(tx, run.workspace);
  // It is told when it is back, and what it sends then is only rescued work.
  if (run.cancelledBy) return await endCancelled(tx, run, run.cancelledBy);
  if (run.state === "running" || run.attempt >= attemptsMax) return await loseRun(tx, run);
  const silent = { daemon: run.daemon ?? "", why: "silent" as const, detail: "" };
  await move(tx, run, "queued", { daemon: null }, { type: "requeued", ...silent });
  return null;
}

/** A run is left to the daemon that had its pipeline last for a moment only: then the others are woken. */
async function wakeWaiting({ db, wake }: Parts) {
  if (await anyQueued(db.read)) wake.emit("queue");
}

/** Pauses that have ended: whoever waits for their agents may begin. */
async function endExpiredPauses({ db, clock }: Pick<Parts, "db" | "clock">) {
  const at = clock.now();
  if ((await pausesAt(db.read, 0)).every(({ until }) => until > at)) return;
  await db.write(async (tx) => {
    if (!(await endPauses(tx))) return;
    await requestAllPositions(tx);
    tx.wake("queue");
  });
}
