import { appendFileSync, existsSync, readFileSync, truncateSync } from "node:fs";
import type { Logger } from "pino";
import { backoffMs, type Clock } from "../app/protocol/pace.ts";
import type { Event, Fact } from "../app/protocol/wire.ts";
import { eventsPerPostMax } from "../app/protocol/wire.ts";
import { type Server, ServerError } from "./server.ts";

/** Events that come within this time share a request. */
const gatherMs = 15;

/** How far the run's files have been read when an event was made: where a restart resumes. */
export type Mark = { journal: number; output: number; transcript: number };
const start: Mark = { journal: 0, output: 0, transcript: 0 };

/**
 * Numbers a run's events and keeps them on disk until the app has them. A mark is stored with each
 * event, so what a restarted daemon reads again never makes the same event twice.
 */
export class Outbox {
  mark: Mark = start;
  #path: string;
  #events: Event[] = [];
  #acknowledged = 0;
  #news: (() => void)[] = [];
  #clock: Clock;

  constructor(path: string, clock: Clock) {
    this.#path = path;
    this.#clock = clock;
    if (!existsSync(path)) return;
    const text = readFileSync(path, "utf8");
    const whole = text.slice(0, text.lastIndexOf("\n") + 1);
    // A line that was being written when the daemon was killed never happened.
    if (whole.length < text.length) truncateSync(path, Buffer.byteLength(whole));
    for (const line of whole.split("\n").filter(Boolean)) {
      const { event, mark } = JSON.parse(line) as { event: Event; mark: Mark };
      this.#events.push(event);
      this.mark = mark;
    }
  }

  get lastSeq(): number {
    return this.#events.length;
  }
  get events(): readonly Event[] {
    return this.#events;
  }

  add(fact: Fact, mark: Partial<Mark> = {}) {
    const event = { ...fact, seq: this.lastSeq + 1, at: this.#clock.now() } as Event;
    this.mark = { ...this.mark, ...mark };
    appendFileSync(this.#path, `${JSON.stringify({ event, mark: this.mark })}\n`);
    this.#events.push(event);
    for (const wake of this.#news.splice(0)) wake();
  }

  /** Sends until aborted. Rejects when the app says this attempt is over. */
  async send(server: Server, runId: string, attempt: number, log: Logger, signal: AbortSignal) {
    for (let failures = 0; !signal.aborted; ) {
      if (this.#acknowledged >= this.lastSeq) {
        await this.#nextEvent(signal);
        await this.#clock.sleep(gatherMs, signal);
        continue;
      }
      const from = this.#acknowledged;
      const batch = this.#events.slice(from, from + eventsPerPostMax);
      try {
        const answer = await server.events(runId, { attempt, events: batch }, signal);
        this.#acknowledged = Math.max(answer.acknowledged, 0);
        failures = 0;
        for (const wake of this.#news.splice(0)) wake();
      } catch (error) {
        if (signal.aborted) return;
        if (!(error instanceof ServerError) || !error.passing) throw error;
        failures += 1;
        if (failures === 1) log.warn({ run: runId, why: error.message }, "events wait to be sent");
        await this.#clock.sleep(backoffMs(failures, 200, 10_000, Math.random()), signal);
      }
    }
  }

  /** Resolves when the app has every event, or the signal aborts. */
  async delivered(signal: AbortSignal) {
    while (this.#acknowledged < this.lastSeq && !signal.aborted) await this.#nextEvent(signal);
  }

  #nextEvent(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) return resolve();
      const done = () => {
        signal.removeEventListener("abort", done);
        resolve();
      };
      this.#news.push(done);
      signal.addEventListener("abort", done, { once: true });
    });
  }
}
