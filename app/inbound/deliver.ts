import type { Logger } from "pino";
import type { GitHub } from "../github/app.ts";
import { GitHubError } from "../github/error.ts";
import { backoffMs, type Clock } from "../protocol/clock.ts";
import type { RunningState } from "../protocol/running-state.ts";
import type { Database } from "../state/database.ts";
import {
  type Delivery,
  dueDeliveries,
  markDeliveryFailed,
  markHandled,
  nextDeliveryDue,
} from "../state/delivery.ts";
import type { Wake } from "../state/wake.ts";
import type { Inbox } from "./inbox.ts";
import { readEnvelope } from "./payload.ts";

/** A handler that fails this often on one delivery, and not because GitHub is away, is not asked again. */
const attemptsMax = 5;
/** The most deliveries of one look. */
const handledMax = 20;
/** How long a burst goes first: between two looks at it, and in all, in milliseconds. */
const yieldMs = 10;
const yieldMsMax = 500;
/** How long the loop waits when nothing wakes it, in milliseconds. */
const idleMs = 30_000;
const retry = { baseMs: 500, mostMs: 60_000 };

type Parts = {
  db: Database;
  inbox: Inbox;
  github: Pick<GitHub, "receive">;
  clock: Clock;
  wake: Wake;
  log: Logger;
};

/** Hands stored deliveries to the handlers, in the order they came, until `state` stops. */
export async function deliver(parts: Parts, state: RunningState) {
  const { db, inbox, clock, wake } = parts;
  const onDelivery = () => state.wake();
  wake.on("deliveries", onDelivery);
  while (state.running) {
    const seen = state.wakes;
    const due = await dueDeliveries(db.read, clock.now(), handledMax);
    if (due.length === 0) {
      await state.sleepUnlessWoken(seen, await untilNext(parts));
      continue;
    }
    // GitHub waits for its answer, and gives up after ten seconds; what is stored waits better.
    for (let ms = 0; inbox.isBusy() && ms < yieldMsMax; ms += yieldMs) await state.sleep(yieldMs);
    await handleAll(parts, due, state);
  }
  wake.off("deliveries", onDelivery);
}

async function untilNext({ db, clock }: Parts): Promise<number> {
  const due = await nextDeliveryDue(db.read);
  return due === null ? idleMs : Math.min(idleMs, Math.max(10, due - clock.now()));
}

/**
 * One after another. That they are handled is stored at the end, for all at once: killed before that,
 * they are handled again, and their intents' keys make it have no effect.
 */
async function handleAll(parts: Parts, due: Delivery[], state: RunningState) {
  const handled: string[] = [];
  for (const delivery of due) {
    if (!state.running) break;
    if (await handle(parts, delivery)) handled.push(delivery.guid);
  }
  if (handled.length > 0) await parts.db.write((tx) => markHandled(tx, handled));
}

async function handle({ db, github, clock, log }: Parts, delivery: Delivery): Promise<boolean> {
  const { guid, event } = delivery;
  try {
    await github.receive({ guid, event, payload: readEnvelope(JSON.parse(delivery.payload)) });
    return true;
  } catch (error) {
    const attempts = delivery.attempts + 1;
    const passing = error instanceof GitHubError && error.passing;
    const final = !passing && attempts >= attemptsMax;
    const asked = error instanceof GitHubError ? error.retryAfterMs : 0;
    const pause = Math.max(asked, backoffMs(clock, attempts, retry));
    log.error({ err: error, delivery: guid, event, final }, "a delivery could not be handled");
    const failure = { error: String(error), dueAt: clock.now() + pause, final };
    await db.write((tx) => markDeliveryFailed(tx, delivery, failure));
    return false;
  }
}
