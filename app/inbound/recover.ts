import type { Logger } from "pino";
import type { GitHub } from "../github/app.ts";
import type { Clock } from "../protocol/clock.ts";
import { isolated, type RunningState } from "../protocol/running-state.ts";
import type { Database } from "../state/database.ts";
import { forgetOldDeliveries, knownDeliveries } from "../state/delivery.ts";

const everyMs = 5 * 60_000;
/** GitHub can redeliver what is at most three days old. */
const redeliverableMs = 3 * 24 * 3_600_000;
/** The most attempts at one delivery, GitHub's first among them. */
const triesMax = 5;

type Parts = {
  db: Database;
  github: Pick<GitHub, "deliveries" | "redeliver">;
  clock: Clock;
  log: Logger;
};

/** Asks GitHub for deliveries that never came, at the start and every five minutes, until `state` stops. */
export async function recover(parts: Parts, state: RunningState) {
  const { db, log } = parts;
  while (state.running) {
    const missed = { message: "missed deliveries could not be looked for; tried again in 5 min" };
    await isolated(log, missed, () => recoverDeliveries(parts));
    const old = { message: "old deliveries could not be forgotten; tried again in 5 min" };
    await isolated(log, old, () => db.write(forgetOldDeliveries));
    await state.sleep(everyMs);
  }
}

/**
 * Asks for each delivery again whose every attempt failed and that is not in the inbox, in the order in which
 * people did what they tell of. One that is just being stored may come a second time: its GUID is known then.
 *
 * @throws GitHubError when GitHub does not show them. One that it does not send again keeps no other.
 */
export async function recoverDeliveries({ db, github, clock, log }: Parts) {
  const all = await github.deliveries(clock.now() - redeliverableMs);
  const succeeded = new Set(all.filter((row) => row.ok).map((row) => row.guid));
  const missed = new Map<string, number>();
  // A delivery's place is that of its first attempt; GitHub lists the newest first.
  for (const row of all.toSorted((a, b) => a.deliveredAt - b.deliveredAt || a.id - b.id))
    if (!succeeded.has(row.guid) && !missed.has(row.guid)) missed.set(row.guid, row.id);
  // One that this app refuses each time, for a wrong secret, is not asked for without end.
  for (const guid of missed.keys())
    if (all.filter((row) => row.guid === guid).length >= triesMax) missed.delete(guid);
  const known = await knownDeliveries(db.read, [...missed.keys()]);
  for (const [guid, id] of missed) {
    if (known.has(guid)) continue;
    log.warn({ delivery: guid }, "a delivery never arrived: asking GitHub to send it again");
    const message = "GitHub did not take the request to send a delivery again";
    await isolated(log, { message, delivery: guid }, () => github.redeliver(id));
  }
}
