import type { Logger } from "pino";
import type { GitHub } from "../github/app.ts";
import type { DeliveryAttempt } from "../github/objects.ts";
import type { Clock } from "../protocol/clock.ts";
import { isolated, type RunningState } from "../protocol/running-state.ts";
import type { Database } from "../state/database.ts";
import { knownDeliveries } from "../state/delivery.ts";
import { markOf, setMark } from "../state/mark.ts";

const everyMs = 5 * 60_000;
/** GitHub can redeliver what is at most three days old. */
const redeliverableMs = 3 * 24 * 3_600_000;
/** How far behind the mark GitHub's list is read again: it may lag, and clocks differ; in milliseconds. */
const overlapMs = 15 * 60_000;
/** So often this app may refuse one delivery itself, for a wrong secret say, before it is asked for no more. */
const refusedMax = 5;
/** The answers of this app by which it refuses a delivery (listen.ts). */
const refusals = [400, 401, 413];
/** How many are asked for to see whether anything arrives, and how long each may take, in milliseconds. */
const probesMax = 3;
const probeMs = { wait: 10_000, look: 500 };

type Parts = {
  db: Database;
  github: Pick<GitHub, "deliveries" | "redeliver">;
  clock: Clock;
  log: Logger;
};

/** Asks GitHub for deliveries that never came, at the start and every five minutes, until `state` stops. */
export async function recover(parts: Parts, state: RunningState) {
  const { log } = parts;
  while (state.running) {
    const missed = { message: "missed deliveries could not be looked for; tried again in 5 min" };
    await isolated(log, missed, () => recoverDeliveries(parts, state));
    await state.sleep(everyMs);
  }
}

/**
 * Asks for each delivery again that is not in the inbox, in the order in which people did what they tell of:
 * also for those that came once and that a restored database has forgotten. As long as nothing arrives,
 * because what is in front of this app is broken, only the first few are asked for at each look.
 *
 * @throws GitHubError when GitHub does not show them. One that it does not send again keeps no other.
 */
export async function recoverDeliveries(parts: Parts, state: RunningState) {
  const { db, github, clock } = parts;
  const now = clock.now();
  const born = (await markOf(db.read, "born")) ?? now;
  const seenUpTo = (await markOf(db.read, "deliveries")) ?? 0;
  const since = Math.max(now - redeliverableMs, seenUpTo - overlapMs);
  const missed = missedOf(await github.deliveries(since), born);
  const known = await knownDeliveries(db.read, [...missed.keys()]);
  const missing = [...missed.values()].filter(({ guid }) => !known.has(guid));
  await redeliver(parts, missing, state);
  // Up to the first that is missing: the next look tells whether it has come by then.
  const upTo = Math.min(now, ...missing.map(({ deliveredAt }) => deliveredAt));
  await db.write(async (tx) => {
    await setMark(tx, "born", born);
    await setMark(tx, "deliveries", upTo);
  });
}

/** The first attempt at each delivery that may be missing, oldest first. */
function missedOf(all: DeliveryAttempt[], born: number): Map<string, DeliveryAttempt> {
  const of = new Map<string, DeliveryAttempt[]>();
  // GitHub lists the newest first, and its times are whole seconds.
  for (const row of all.toSorted((a, b) => a.deliveredAt - b.deliveredAt || a.id - b.id))
    of.set(row.guid, [...(of.get(row.guid) ?? []), row]);
  const missed = new Map<string, DeliveryAttempt>();
  for (const [guid, rows] of of) {
    const [first] = rows;
    const refused = rows.filter(({ status }) => refusals.includes(status)).length;
    const taken = rows.some(({ status }) => status >= 200 && status < 300);
    // Taken before this database was made, it was another app's.
    if (!first || refused >= refusedMax || (taken && first.deliveredAt < born)) continue;
    missed.set(guid, first);
  }
  return missed;
}

/** Asks for each again, the first few one after another until one arrives. */
async function redeliver(parts: Parts, missing: DeliveryAttempt[], state: RunningState) {
  let arrives = false;
  for (const [index, attempt] of missing.entries()) {
    if (!state.running || (!arrives && index >= probesMax)) return;
    const asked = await ask(parts, attempt);
    if (asked && !arrives) arrives = await hasArrived(parts, attempt, state);
  }
}

async function ask({ github, log }: Parts, { guid, id }: DeliveryAttempt): Promise<boolean> {
  log.warn({ delivery: guid }, "a delivery never arrived: asking GitHub to send it again");
  const message = "GitHub did not take the request to send a delivery again";
  return await isolated(log, { message, delivery: guid }, () => github.redeliver(id));
}

async function hasArrived(
  { db }: Parts,
  { guid }: DeliveryAttempt,
  state: RunningState,
): Promise<boolean> {
  for (let ms = 0; ms < probeMs.wait && state.running; ms += probeMs.look) {
    await state.sleep(probeMs.look);
    if ((await knownDeliveries(db.read, [guid])).has(guid)) return true;
  }
  return false;
}
