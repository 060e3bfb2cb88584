import type { Logger } from "pino";
import { type Clock, waitAmong } from "../../app/protocol/clock.ts";
import { Event, eventsPerPostMax, type Fact } from "../../app/protocol/event.ts";
import type { RunningState } from "../../app/protocol/running-state.ts";
import type { Disk } from "../disk.ts";
import { type Server, ServerError } from "./client.ts";

/** Events that come within this time share a request. */
const gatherMs = 15;
const retry = { baseMs: 200, mostMs: 10_000 };

/** Of one request, in characters: plans and words of an agent may be long. */
const batchMax = 1_000_000;

function fitting(events: Event[]): Event[] {
  let length = 0;
  const end = events.findIndex((event) => {
    length += JSON.stringify(event).length;
    return length > batchMax;
  });
  return end < 0 ? events : events.slice(0, Math.max(1, end));
}

/** Events of a kind that an agent can make as many of as it likes. */
const factsMax: Partial<Record<Fact["type"], number>> = {
  say: 500,
  commit: 500,
  notice: 200,
  egress: 200,
  output: 2_000,
  usage: 5_000,
  ask: 20,
  comment: 10,
  service: 200,
  tool: 3_000,
  edit: 1_500,
  plan: 300,
  model: 1_500,
  session: 10,
  message: 100,
  stage: 100,
  receipt: 100,
};

/** How far the run's files have been read when an event was made: where a restart resumes. */
type Mark = { journal: number; output: number; transcript: number };
const start: Mark = { journal: 0, output: 0, transcript: 0 };

/**
 * Numbers a run's events and keeps them on disk until the app has them. A mark is stored with each
 * event, so what a restarted daemon reads again never makes the same event twice.
 */
export class Outbox {
  mark: Mark = start;
  #path: string;
  #disk: Disk;
  #events: Event[] = [];
  #acknowledged = 0;
  #news: (() => void)[] = [];
  #clock: Clock;
  #log: Logger;
  #closed = false;
  #counts = new Map<string, number>();

  constructor(path: string, { disk, clock, log }: { disk: Disk; clock: Clock; log: Logger }) {
    this.#path = path;
    this.#disk = disk;
    this.#clock = clock;
    this.#log = log;
    const text = disk.read(path) ?? "";
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    // A line that was being written when the daemon was killed never happened.
    if (whole.length < text.length) disk.truncate(path, Buffer.byteLength(whole));
    for (const line of whole.split("\n").filter(Boolean)) {
      const { event, mark } = JSON.parse(line) as { event: Event; mark: Mark };
      this.#events.push(event);
      this.#counts.set(event.type, (this.#counts.get(event.type) ?? 0) + 1);
      this.mark = mark;
    }
  }

  get lastSeq(): number {
    return this.#events.length;
  }
  get events(): readonly Event[] {
    return this.#events;
  }

  /** No more facts: the run has its end, which counts them. */
  close() {
    this.#closed = true;
  }

  add(fact: Fact, mark: Partial<Mark> = {}) {
    this.addAll([fact], mark);
  }

  /** What one line of a run's files says is kept as one: all of it, or none and read again. */
  addAll(facts: Fact[], mark: Partial<Mark>) {
    this.mark = { ...this.mark, ...mark };
    if (this.#closed) return;
    const made: Event[] = [];
    for (const fact of facts.filter((one) => this.hears(one))) {
      const seq = this.lastSeq + made.length + 1;
      const event = Event.safeParse({ ...fact, seq, at: this.#clock.now() });
      if (event.success) {
        made.push(event.data);
        this.#counts.set(fact.type, (this.#counts.get(fact.type) ?? 0) + 1);
      }
      // One fact the app would not take must not keep all after it from being sent.
      else this.#log.error({ fact: fact.type, why: event.error.message }, "a fact is malformed");
    }
    if (made.length === 0) return;
    const rows = made.map((event) => `${JSON.stringify({ event, mark: this.mark })}\n`);
    this.#disk.append(this.#path, rows.join(""));
    this.#events.push(...made);
    for (const wake of this.#news.splice(0)) wake();
  }

  /**
   * Sends until `state` stops.
   *
   * @throws ServerError when the app says this attempt is over.
   */
  async send(
    server: Server,
    { run, attempt }: { run: string; attempt: number },
    state: RunningState,
  ) {
    while (state.running) {
      if (this.#acknowledged >= this.lastSeq) {
        await waitAmong(this.#news, state.signal);
        await state.sleep(gatherMs);
        continue;
      }
      const from = this.#acknowledged;
      const batch = fitting(this.#events.slice(from, from + eventsPerPostMax));
      try {
        const answer = await server.events(run, { attempt, events: batch }, state.signal);
        this.#acknowledged = Math.max(answer.acknowledged, 0);
        state.succeeded();
        for (const wake of this.#news.splice(0)) wake();
      } catch (error) {
        if (!state.running) return;
        if (!(error instanceof ServerError) || !error.passing) throw error;
        if (state.failures === 0)
          this.#log.warn({ run, why: error.message }, "events wait to be sent");
        await state.backOff(retry);
      }
    }
  }

  /** Resolves when the app has every event, or the signal aborts. */
  async delivered(signal: AbortSignal) {
    while (this.#acknowledged < this.lastSeq && !signal.aborted)
      await waitAmong(this.#news, signal);
  }

  /** A talkative agent's words and commits are told up to a number; the transcript has them all. */
  hears(fact: Fact): boolean {
    const most = factsMax[fact.type];
    return most === undefined || (this.#counts.get(fact.type) ?? 0) < most;
  }
}
