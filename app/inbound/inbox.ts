import type { Clock } from "../protocol/clock.ts";
import { crashAt } from "../protocol/crash.ts";
import type { Database } from "../state/database.ts";
import { createDeliveryStore, type NewDelivery } from "../state/delivery.ts";
import type { Wake } from "../state/wake.ts";

/** The most deliveries of one commit. */
const batchMax = 100;
/** The most turns of the event loop that a commit waits while more deliveries arrive. */
const gatherTurnsMax = 20;
/** So many deliveries in one commit are a burst, for as long after it (in milliseconds). */
const burstLeast = 4;
const burstMs = 20;

export type Inbox = {
  /** Stores a delivery; resolves when it is durable. Wakes who handles deliveries. */
  put(delivery: NewDelivery): Promise<void>;
  /** Whether many wait for their 202, or did a moment ago. */
  isBusy(): boolean;
};

/**
 * Stores deliveries, those that come while one commit is under way together in the next: a commit waits
 * for the disk, and a burst of labels is a hundred deliveries in a second.
 */
export function createInbox(db: Database, clock: Clock, wake: Wake): Inbox {
  type Waiting = { delivery: NewDelivery; resolve: () => void; reject: (error: unknown) => void };
  let waiting: Waiting[] = [];
  let writing = false;
  let burstUntil = 0;
  const store = createDeliveryStore(db);
  const storeAll = async (batch: Waiting[]) => {
    await store(batch.map((one) => one.delivery));
    crashAt("app: a delivery is stored");
    for (const one of batch) one.resolve();
  };
  const drain = async () => {
    writing = true;
    while (waiting.length > 0) {
      // A commit costs as much as fifty rows: those that are just being read come along.
      for (let before = 0, turns = 0; waiting.length > before && turns < gatherTurnsMax; turns++) {
        before = waiting.length;
        await clock.turn();
      }
      const batch = waiting.slice(0, batchMax);
      waiting = waiting.slice(batchMax);
      // One row that cannot be stored must not take the others with it.
      await storeAll(batch).catch(async () => {
        for (const one of batch) await storeAll([one]).catch((error) => one.reject(error));
      });
      if (batch.length >= burstLeast) burstUntil = clock.now() + burstMs;
      wake.emit("deliveries");
    }
    writing = false;
  };
  return {
    isBusy: () => (writing && waiting.length >= burstLeast) || clock.now() < burstUntil,
    put: (delivery) =>
      new Promise((resolve, reject) => {
        waiting.push({ delivery, resolve, reject });
        if (!writing) void drain();
      }),
  };
}
