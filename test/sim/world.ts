import type { Clock } from "../../app/protocol/clock.ts";

// Virtual time: a heap of what is to happen, taken one after another. Between two events everything that
// can go on does, so a seed plays the same each time.

type Event = { at: number; order: number; happen: () => void };

/** A program of the simulated world: killed, nothing it waits for ever answers again. */
export type Process = {
  clock: Clock;
  readonly alive: boolean;
  kill(): void;
  /** Resolves after so many milliseconds, if the process is alive then. */
  pause(ms: number): Promise<void>;
  /** The same function, whose promise never settles once the process is dead. */
  guard<Args extends unknown[], T>(
    work: (...args: Args) => Promise<T>,
  ): (...args: Args) => Promise<T>;
};

const never = new Promise<never>(() => {});

/** The first moment of every simulation, in milliseconds since 1970. */
export const epoch = 1_800_000_000_000;

export class World {
  /** In milliseconds since 1970. */
  now = epoch;
  /** How many events have happened. */
  steps = 0;
  /** One line an event that matters, with the seconds before it. */
  readonly trace: string[] = [];
  readonly #seed: number;
  readonly #events: Event[] = [];
  #order = 0;
  #activity = 0;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Numbers from 0 up to 1, the same ones for each seed and name. */
  chance(name: string): () => number {
    return chanceOf(this.#seed, name);
  }

  /** Writes a line of the trace. */
  say(...words: unknown[]) {
    const seconds = ((this.now - epoch) / 1_000).toFixed(2).padStart(9);
    this.trace.push(`${seconds} ${words.join(" ")}`);
  }

  /** Something has gone on: the present event is not over yet. */
  touch() {
    this.#activity += 1;
  }

  /** Lets `happen` happen after `ms` milliseconds. */
  at(ms: number, happen: () => void) {
    this.touch();
    const event = { at: Math.round(this.now + Math.max(0, ms)), order: this.#order++, happen };
    const heap = this.#events;
    let i = heap.push(event) - 1;
    for (let up = (i - 1) >> 1; i > 0 && isBefore(event, heap[up]); up = (i - 1) >> 1) {
      heap[i] = heap[up] as Event;
      i = up;
    }
    heap[i] = event;
  }

  /** Plays until `endAt` (milliseconds since 1970), or until nothing is left. */
  async playUntil(endAt: number) {
    for (;;) {
      const [next] = this.#events;
      if (!next || next.at > endAt) break;
      this.#take();
      this.now = next.at;
      this.steps += 1;
      next.happen();
      await this.#settle();
    }
    this.now = Math.max(this.now, endAt);
  }

  /** A program with a clock that may be wrong by `offset()` milliseconds. */
  process(name: string, offset: () => number = () => 0): Process {
    let alive = true;
    const chance = this.chance(name);

    const sleep = (ms: number, signal: AbortSignal) =>
      new Promise<void>((resolve) => {
        let over = false;
        const done = () => {
          signal.removeEventListener("abort", done);
          if (over || !alive) return;
          over = true;
          this.touch();
          resolve();
        };
        if (signal.aborted) return done();
        this.at(ms, done);
        signal.addEventListener("abort", done, { once: true });
      });
    const pause = (ms: number) => sleep(ms, new AbortController().signal);
    return {
      get alive() {
        return alive;
      },
      kill: () => {
        alive = false;
      },
      pause,
      guard:
        (work) =>
        async (...args) => {
          if (!alive) return await never;
          this.touch();
          const result = await work(...args);
          this.touch();
          return alive ? result : await never;
        },
      clock: {
        now: () => this.now + offset(),
        sleep,
        chance,
        turn: () => pause(0),
      },
    };
  }

  /** Until nothing goes on any more: all that is left waits for virtual time. */
  async #settle() {
    for (let seen = -1; seen !== this.#activity; ) {
      seen = this.#activity;
      await turn();
      await turn();
    }
  }

  #take() {
    const heap = this.#events;
    const last = heap.pop() as Event;
    if (heap.length === 0) return;
    let i = 0;
    for (let down = 1; down < heap.length; down = 2 * i + 1) {
      if (down + 1 < heap.length && isBefore(heap[down + 1] as Event, heap[down])) down += 1;
      if (!isBefore(heap[down] as Event, last)) break;
      heap[i] = heap[down] as Event;
      i = down;
    }
    heap[i] = last;
  }
}

const isBefore = (a: Event, b: Event | undefined): boolean =>
  b !== undefined && (a.at < b.at || (a.at === b.at && a.order < b.order));

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Numbers from 0 up to 1 (Mulberry32), the same ones for each seed and name. */
export function chanceOf(seed: number, name: string): () => number {
  let state = seed | 0;
  for (const letter of name) state = (Math.imul(state, 31) + letter.charCodeAt(0)) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A number between two, by chance. */
export const between = (chance: () => number, least: number, most: number): number =>
  least + chance() * (most - least);
