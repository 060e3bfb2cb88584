import type { Logger } from "pino";
import type { GitHub } from "../github/app.ts";
import { GitHubError } from "../github/error.ts";
import { backoffMs, type Clock } from "../protocol/clock.ts";
import { crashAt } from "../protocol/crash.ts";
import { isolated, type RunningState } from "../protocol/running-state.ts";
import { type Database, isStorageError } from "../state/database.ts";
import {
  type Delivery,
  findDelivery,
  hastenDeliveries,
  markDeliveryFailed,
  markHandled,
  type PendingDelivery,
  pendingDeliveries,
} from "../state/delivery.ts";
import { givenUpEveryMs, refusedAgain, refusedBackoff } from "../state/refusal.ts";
import type { Wake } from "../state/wake.ts";
import type { Inbox } from "./inbox.ts";
import { readEnvelope } from "./payload.ts";
import { tellFailed } from "./tell-failed.ts";

// Deliveries of one thread are handled in the order they came, in a lane; lanes go side by side:
//
//   pending ─▶ first of its lane and due ─▶ handled
//     ▲ │                       │
//     │ └ away, or refused ◀────┤  its lane waits as well, behind a refusal for two minutes at most
//     │                         └ refused for half an hour, or a fault of Trimo's ─▶ failed, the thread is told
//     └─────────────────────────── hourly for three days, and at each start ───────────┘
//
// A cancel waits for nobody: what was asked for before it ends by it, whenever that is handled.

/** How many lanes go side by side, and cancels beside them. */
const lanesMax = 8;
const expressMax = 4;
/** The most deliveries of one look. */
const lookedAtMax = 2_000;
/** A fault of Trimo's own in one delivery is tried this often. */
const faultsMax = 5;
/** For how long a refused delivery keeps its lane, in milliseconds. */
const laneKeptMs = 120_000;
/** How long a burst goes first: between two looks at it, and in all, in milliseconds. */
const yieldMs = 10;
const yieldMsMax = 500;
/** How long the loop waits when the database takes nothing, in milliseconds. */
const faultPauseMs = 1_000;
/** How long the loop waits when nothing wakes it, in milliseconds. */
const idleMs = 30_000;
const retry = { baseMs: 500, mostMs: 60_000 };

/** `patienceMs`: how long GitHub's refusals are not believed. */
type Parts = {
  db: Database;
  inbox: Inbox;
  github: Pick<GitHub, "receive">;
  clock: Clock;
  wake: Wake;
  log: Logger;
  patienceMs: number;
};

/** Hands stored deliveries to the handlers, lane by lane, until `state` stops. */
export async function deliver(parts: Parts, state: RunningState) {
  const { db, inbox, clock, wake, log } = parts;
  const onDelivery = () => state.wake();
  wake.on("deliveries", onDelivery);
  const lanes = new Lanes(parts, state);
  const failed = { message: "deliveries could not be looked at; tried again in a second" };
  // A new process may have been mended, and its clock set.
  await isolated(log, failed, () => db.write(hastenDeliveries));
  while (state.running) {
    const seen = state.wakes;
    let pauseMs = faultPauseMs;
    await isolated(log, failed, async () => {
      await lanes.store();
      const pending = await pendingDeliveries(db.read, clock.now(), lookedAtMax);
      // GitHub waits for its answer, and gives up after ten seconds; what is stored waits better.
      if (pending.length > 0)
        for (let ms = 0; inbox.isBusy() && ms < yieldMsMax; ms += yieldMs)
          await state.sleep(yieldMs);
      pauseMs = lanes.start(pending);
    });
    await state.sleepUnlessWoken(seen, pauseMs);
  }
  wake.off("deliveries", onDelivery);
  await lanes.end();
}

/** The deliveries that are being handled. */
class Lanes {
  readonly #parts: Parts;
  readonly #state: RunningState;
  /** By lane, and cancels by their GUID. */
  readonly #busy = new Map<string, Promise<void>>();
  readonly #express = new Map<string, Promise<void>>();
  readonly #handled = new Set<string>();

  constructor(parts: Parts, state: RunningState) {
    this.#parts = parts;
    this.#state = state;
  }

  /**
   * Stores which have been handled, all at once: killed before that, they are handled again, and their
   * intents' keys make it have no effect.
   */
  async store() {
    // A copy: more are handled while these are stored.
    const handled = [...this.#handled];
    if (handled.length === 0) return;
    await this.#parts.db.write((tx) => markHandled(tx, handled));
    for (const guid of handled) this.#handled.delete(guid);
  }

  /** Begins what may begin of these; gives in how many milliseconds to look again. */
  start(pending: PendingDelivery[]): number {
    const now = this.#parts.clock.now();
    let next = idleMs;
    const waiting = new Set(this.#busy.keys());
    const isDue = ({ dueAt }: PendingDelivery) => {
      if (dueAt <= now) return true;
      next = Math.min(next, Math.max(10, dueAt - now));
      return false;
    };
    for (const one of pending) {
      if (this.#handled.has(one.guid) || this.#express.has(one.guid)) continue;
      if (one.express) {
        if (this.#express.size < expressMax && isDue(one))
          this.#begin(this.#express, one.guid, one);
        continue;
      }
      if (waiting.has(one.lane)) continue;
      const due = isDue(one);
      if (due && this.#busy.size < lanesMax) this.#begin(this.#busy, one.lane, one);
      const isRefused = one.refusedSince !== null && now - one.refusedSince >= laneKeptMs;
      if (due || !isRefused) waiting.add(one.lane);
    }
    return next;
  }

  /** Resolves when none is being handled any more, and that is stored. */
  async end() {
    await Promise.all([...this.#busy.values(), ...this.#express.values()]);
    await this.store();
  }

  #begin(running: Map<string, Promise<void>>, key: string, { guid }: PendingDelivery) {
    const work = async () => {
      if (await handle(this.#parts, guid)) this.#handled.add(guid);
    };
    const { log } = this.#parts;
    const ended = work()
      .catch(async (error) => {
        log.error({ err: error, delivery: guid }, "what came of a delivery could not be stored");
        await this.#state.sleep(faultPauseMs);
      })
      .finally(() => {
        running.delete(key);
        this.#state.wake();
      });
    running.set(key, ended);
  }
}

/** True: it has had its effect. */
async function handle(parts: Parts, guid: string): Promise<boolean> {
  const delivery = await findDelivery(parts.db.read, guid);
  if (!delivery) return false;
  const { event } = delivery;
  try {
    const payload = readEnvelope(JSON.parse(delivery.payload));
    await parts.github.receive({ guid, event, payload });
    crashAt("app: a delivery has had its effect");
    return true;
  } catch (error) {
    await notHandled(parts, delivery, error);
    return false;
  }
}

async function notHandled(parts: Parts, delivery: Delivery, error: unknown) {
  const { db, clock, log } = parts;
  const { guid, event, attempts } = delivery;
  const { counted, isFinal, pauseMs } = judge(parts, delivery, error);
  const state = isFinal ? ("failed" as const) : ("pending" as const);
  log.error({ err: error, delivery: guid, event, state }, "a delivery could not be handled");
  const dueAt = clock.now() + (isFinal ? givenUpEveryMs : pauseMs);
  await db.write(async (tx) => {
    await markDeliveryFailed(
      tx,
      { guid, attempts },
      { error: String(error), dueAt, state, counted },
    );
    if (isFinal) await tellFailed(tx, delivery, error);
  });
}

/** What a failure means: for how long it is waited, and whether what waits behind it goes on. */
function judge({ clock, patienceMs }: Parts, delivery: Delivery, error: unknown) {
  const { attempts, refusals, refusedSince } = delivery;
  const away = backoffMs(clock, attempts, retry);
  const asked = error instanceof GitHubError ? error.retryAfterMs : 0;
  if (isStorageError(error) || (error instanceof GitHubError && error.passing))
    return { counted: { refusals, refusedSince }, isFinal: false, pauseMs: Math.max(asked, away) };
  const { counted, isBelieved } = refusedAgain(delivery, clock.now(), patienceMs);
  // A fault of Trimo's own does not go away by itself.
  if (!(error instanceof GitHubError))
    return { counted, isFinal: counted.refusals >= faultsMax, pauseMs: away };
  const step = backoffMs(clock, counted.refusals - 1, refusedBackoff(patienceMs));
  return { counted, isFinal: isBelieved, pauseMs: step };
}
