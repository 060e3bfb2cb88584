import type { Logger } from "pino";
import type { Clock } from "../protocol/clock.ts";
import { isolated, RunningState } from "../protocol/running-state.ts";
import { allDaemons, busyByDaemon, isHere } from "../state/daemon.ts";
import type { Database, Reads } from "../state/database.ts";
import { pausesAt } from "../state/pause.ts";
import type { Wake } from "../state/wake.ts";
import { firstClaimable } from "./claim.ts";
import { agentNow, canBegin } from "./match.ts";

// When the queue moves, as many daemons are woken as can use it: a hundred idle machines that all ask at once for
// one run hold up everybody's leases. Each also asks by itself now and then.

/** Runs that are looked at together; the next ones have their turn when these are taken. */
const offeredMax = 200;
/** A run that was offered is not offered again sooner, in milliseconds: somebody may be on the way. */
const againMs = 3_000;

/** How often a run was offered, and when last (milliseconds since 1970). */
type Offered = { times: number; at: number };

type Parts = { db: Database; clock: Clock; wake: Wake; log: Logger };

/** Wakes daemons whenever the queue has moved, until `state` stops. */
export async function offer({ db, clock, wake, log }: Parts, state: RunningState) {
  const moved = new RunningState(clock, state.signal);
  const onQueue = () => moved.wake();
  wake.on("queue", onQueue);
  // Who is woken first may not be able to take it.
  let offered: ReadonlyMap<string, Offered> = new Map();
  const failed = { message: "no daemon could be woken; each asks by itself in 20 s" };
  try {
    while (moved.running) {
      const seen = moved.wakes;
      await isolated(log, failed, async () => {
        const next = await offersOf(db.read, offered, clock.now());
        offered = next.offered;
        for (const name of next.daemons) wake.emit("offer", name);
      });
      await moved.sleepUnlessWoken(seen);
    }
  } finally {
    wake.off("queue", onQueue);
  }
}

/**
 * The daemons (by name) to wake at `now` (milliseconds since 1970): one for each run that may start, who
 * has room before the others, and one more each time that a run is offered again. `offered`: what was offered until now, by run.
 */
export async function offersOf(
  db: Reads,
  offered: ReadonlyMap<string, Offered>,
  now: number,
): Promise<{ daemons: Set<string>; offered: ReadonlyMap<string, Offered> }> {
  const runs = await firstClaimable(db, offeredMax);
  const woken = new Set<string>();
  const next = new Map<string, Offered>();
  if (runs.length === 0) return { daemons: woken, offered: next };
  const daemons = await allDaemons(db);
  const pauses = await pausesAt(db, now);
  const busy = await busyByDaemon(db);
  const here = daemons.filter((daemon) => isHere(daemon, now));
  const free = new Map(here.map(({ name, slots }) => [name, slots - (busy.get(name) ?? 0)]));
  for (const run of runs) {
    const before = offered.get(run.id);
    const isAgain = before !== undefined && Math.abs(now - before.at) < againMs;
    const offer = isAgain ? before : { times: (before?.times ?? 0) + 1, at: now };
    next.set(run.id, offer);
    const agent = agentNow(run, { daemons, pauses, now });
    const able = daemons.filter((daemon) => canBegin({ ...run, agent }, daemon, pauses));
    const inTurn = able
      .filter(({ name }) => free.has(name))
      .sort((a, b) => (free.get(b.name) ?? 0) - (free.get(a.name) ?? 0));
    // Also one without a free slot, as far as is known here: its run may only wait for GitHub.
    if (!isAgain) for (const { name } of inTurn.slice(0, offer.times)) woken.add(name);
    const [first] = inTurn;
    if (first) free.set(first.name, (free.get(first.name) ?? 0) - 1);
  }
  return { daemons: woken, offered: next };
}
