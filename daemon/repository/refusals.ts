/**
 * Whether a refusal is to be believed: GitHub refuses in passing, for a token that was just made or during an
 * incident. It is after `least` in a row over `overMs` milliseconds.
 */
export class Refusals {
  readonly #least: number;
  readonly #overMs: number;
  #count = 0;
  #since = 0;

  constructor({ least, overMs }: { least: number; overMs: number }) {
    this.#least = least;
    this.#overMs = overMs;
  }

  /** Counts one more at `now` (milliseconds since 1970); true when it is to be believed. */
  believed(now: number): boolean {
    if (this.#count === 0) this.#since = now;
    this.#count += 1;
    return this.#count >= this.#least && now - this.#since >= this.#overMs;
  }

  /** Something else came in between: the count begins anew. */
  forget() {
    this.#count = 0;
  }
}
