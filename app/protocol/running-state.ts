import { aborted, type Backoff, backoffMs, type Clock } from "./clock.ts";

/**
 * The life of one loop: whether it is to go on, its sleeps, its backoff and its wake-ups, written once
 * for every loop of the app and the daemon (after zero-cache's `running-state.ts` in rocicorp/mono).
 *
 *   running ──stop()──▶ stopping: every sleep ends at once, the loop's current turn comes to its end
 */
export class RunningState {
  readonly clock: Clock;
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #sleepers = new Set<() => void>();
  #wakes = 0;
  #failures = 0;

  /** `outer`: a signal that stops this loop as well; undefined: only `stop` does. */
  constructor(clock: Clock, outer?: AbortSignal) {
    this.clock = clock;
    this.#signal = outer ? AbortSignal.any([outer, this.#stop.signal]) : this.#stop.signal;
  }

  /** Aborts when the loop is to end: hand it to what the loop waits for. */
  get signal(): AbortSignal {
    return this.#signal;
  }

  /** Whether the loop is to take another turn. */
  get running(): boolean {
    return !this.#signal.aborted;
  }

  /** How many turns have failed in a row. */
  get failures(): number {
    return this.#failures;
  }

  /** Ends every sleep of the loop; its current turn comes to its end. */
  stop() {
    this.#stop.abort();
  }

  /** Ends the loop's `sleepUntilWoken` at once, without stopping it. */
  wake() {
    this.#wakes += 1;
    for (const wake of this.#sleepers) wake();
  }

  /** Resolves after `ms`, or when the loop is stopped; never rejects. */
  async sleep(ms: number) {
    await this.clock.sleep(ms, this.#signal);
  }

  /** Resolves when woken or stopped; after `ms` at the latest where that is given. Never rejects. */
  async sleepUntilWoken(ms?: number) {
    await this.sleepUnlessWoken(this.wakes, ms);
  }

  /**
   * How often the loop was woken. Read before the loop looks for work and handed to
   * `sleepUnlessWoken`, so that what arrives between the look and the sleep still wakes it.
   */
  get wakes(): number {
    return this.#wakes;
  }

  /** As `sleepUntilWoken`, but resolves at once when there was a wake since `seen` was read. */
  async sleepUnlessWoken(seen: number, ms?: number) {
    if (this.#wakes !== seen) return;
    const early = new AbortController();
    const wake = () => early.abort();
    this.#sleepers.add(wake);
    const until = AbortSignal.any([this.#signal, early.signal]);
    await (ms === undefined ? aborted(until) : this.clock.sleep(ms, until));
    this.#sleepers.delete(wake);
  }

  /** A turn has gone well: the next backoff begins from its first step. */
  succeeded() {
    this.#failures = 0;
  }

  /** A turn has failed: sleeps for the next step of `backoff`, or until stopped. */
  async backOff(backoff: Backoff) {
    this.#failures += 1;
    await this.sleep(backoffMs(this.clock, this.#failures, backoff));
  }
}

/** What a failure is told to; pino's logger is one. */
type ErrorLog = { error(about: object, message: string): void };

/**
 * Runs one part of a loop's turn: its failure is logged with `about`, and keeps the others from nothing. False:
 * it failed.
 */
export async function isolated(
  log: ErrorLog,
  { message, ...about }: { message: string } & Record<string, unknown>,
  work: () => Promise<void>,
): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    log.error({ ...about, err: error }, message);
    return false;
  }
}
