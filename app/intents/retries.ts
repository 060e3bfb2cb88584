import { type Backoff, backoffMs, type Clock } from "../protocol/clock.ts";

/** When each of several things that failed is tried again; kept in memory, a new process begins at once. */
export class Retries<Key> {
  readonly #clock: Clock;
  readonly #backoff: Backoff;
  readonly #failed = new Map<Key, { times: number; triedAt: number; dueAt: number }>();

  constructor(clock: Clock, backoff: Backoff) {
    this.#clock = clock;
    this.#backoff = backoff;
  }

  /** Whether it may be tried now; a clock that was set back makes nothing wait longer. */
  isDue(key: Key): boolean {
    const failed = this.#failed.get(key);
    const now = this.#clock.now();
    return !failed || now >= failed.dueAt || now < failed.triedAt;
  }

  /** It was tried: well, or in vain. */
  tried(key: Key, isDone: boolean) {
    if (isDone) return void this.#failed.delete(key);
    const times = this.#failed.get(key)?.times ?? 0;
    const triedAt = this.#clock.now();
    const dueAt = triedAt + backoffMs(this.#clock, times, this.#backoff);
    this.#failed.set(key, { times: times + 1, triedAt, dueAt });
  }
}
