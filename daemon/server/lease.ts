import type { Clock } from "../../app/protocol/clock.ts";
import type { Message } from "../../app/protocol/renew.ts";
import type { RunningState } from "../../app/protocol/running-state.ts";
import { type Server, ServerError } from "./client.ts";

/** The part of a lease after which it is renewed, and the most: people hear of a silent daemon after a minute. */
const renewAfter = 1 / 6;
const renewEveryMsMax = 20_000;
/** Left for stopping what is under way before the lease ends and somebody else may begin, in milliseconds. */
const stopMs = 30_000;
const retry = { baseMs: 500, mostMs: 5_000 };

/** The attempt whose lease is kept; `leaseMs`: the lease's length in milliseconds. */
type Leased = { runId: string; attempt: number; leaseMs: number };

/**
 * For how long an attempt is surely this daemon's. Beyond it the work goes on, and nothing is pushed: timers
 * stand still while a machine sleeps, so each push asks the clock.
 */
export class Term {
  readonly #clock: Clock;
  readonly #onRegained = new Set<() => void>();
  #from = 0;
  #until = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether nobody else can have the attempt now; after the clock was set back it is not known. */
  get isGood(): boolean {
    const now = this.#clock.now();
    return now >= this.#from && now < this.#until - stopMs;
  }

  /** The lease holds from `from` until `until`, in milliseconds since 1970. */
  extend(from: number, until: number) {
    const wasGood = this.isGood;
    this.#from = from;
    this.#until = until;
    if (!wasGood && this.isGood) for (const tell of this.#onRegained) tell();
  }

  /** There is no lease to be kept: what is saved now was the app's to allow. */
  lift() {
    this.extend(0, Number.POSITIVE_INFINITY);
  }

  /** Somebody else may have the attempt, until the term is extended again. */
  end() {
    this.#until = 0;
  }

  /** Calls `tell` each time the term is good again. */
  onRegained(tell: () => void) {
    this.#onRegained.add(tell);
  }
}

/** What a lease tells of its run. */
type LeaseHolder = {
  /** How long the attempt is this daemon's. */
  term: Term;
  /** The app wants the run stopped. */
  onCancel(): void;
  /** The attempt is no longer this daemon's, or, while it has not started, soon will not be. */
  onLost(why: string): void;
  /** The app is silent: a run that has started works on, and pushes nothing until it answers. */
  onSilent(): void;
  /** The number of the last message that has come; 0: none. */
  received(): number;
  onMessages(messages: Message[]): void;
};

/**
 * Renews an attempt's lease until `state` stops; `state.wake()` renews it at once. A run that the app knows
 * to have started has a longer lease than the one it was claimed with.
 */
export async function keepLease(
  server: Server,
  { runId, attempt, leaseMs }: Leased,
  holder: LeaseHolder,
  state: RunningState,
) {
  const watched = watchEnd(state, leaseMs, holder);
  holder.term.extend(state.clock.now(), state.clock.now() + leaseMs);
  const renewEveryMs = Math.min(leaseMs * renewAfter, renewEveryMsMax);
  while (state.running) {
    if (state.failures === 0) await state.sleepUntilWoken(renewEveryMs);
    if (!state.running) return;
    const askedAt = state.clock.now();
    try {
      const request = { attempt, received: holder.received() };
      const answer = await server.renew(runId, request, state.signal);
      const goodUntil = askedAt + answer.leaseMs;
      holder.term.extend(askedAt, goodUntil);
      watched.goodFor(goodUntil, answer.leaseMs > leaseMs);
      state.succeeded();
      if (answer.cancel) holder.onCancel();
      if (answer.messages.length > 0) holder.onMessages(answer.messages);
    } catch (error) {
      if (!state.running) return;
      if (!(error instanceof ServerError)) throw error;
      if (!error.passing) return holder.onLost(error.message);
      // Its token may have been taken back, and the run given to another: nothing is pushed before it is known again.
      if (error.code === "unauthorized") holder.term.end();
      await state.backOff(retry);
    }
  }
}

/** Tells when the lease is about to end: by the clock, for a request that hangs would let it end meanwhile. */
function watchEnd({ clock, signal }: RunningState, leaseMs: number, holder: LeaseHolder) {
  let renewed = new AbortController();
  const watch = async (goodUntil: number, hasStarted: boolean, current: AbortController) => {
    const stop = AbortSignal.any([signal, current.signal]);
    await clock.sleep(goodUntil - stopMs - clock.now(), stop);
    if (stop.aborted) return;
    if (hasStarted) holder.onSilent();
    else holder.onLost("the app did not answer before the lease's end");
  };
  void watch(clock.now() + leaseMs, false, renewed);
  return {
    /** The lease holds until then, in milliseconds since 1970. */
    goodFor(goodUntil: number, hasStarted: boolean) {
      renewed.abort();
      renewed = new AbortController();
      void watch(goodUntil, hasStarted, renewed);
    },
  };
}
