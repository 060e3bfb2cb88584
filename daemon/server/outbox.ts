import type { Logger } from "pino";
import { type Clock, waitAmong } from "../../app/protocol/clock.ts";
import { crashAt } from "../../app/protocol/crash.ts";
import { Event, eventsPerPostMax, type Fact } from "../../app/protocol/event.ts";
import type { RunningState } from "../../app/protocol/running-state.ts";
import { type Disk, isFull } from "../disk.ts";
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
  kept: 10,
  stage: 100,
  receipt: 100,
};

/** How far the run's files have been read when an event was made: where a restart resumes. */
type Mark = { journal: number; output: number; transcript: number };
const start: Mark = { journal: 0, output: 0, transcript: 0 };

/** An error of the disk's, which may pass. */
const isOfDisk = (error: unknown): boolean =>
  isFull(error) || (error as { code?: string }).code === "EIO";

/** A line of the file; null when it is torn or not the next one. */
function parsed(line: string, seq: number): { event: Event; mark: Mark } | null {
  try {
    const { event, mark } = JSON.parse(line) as { event: Event; mark: Mark };
    return event.seq === seq && typeof mark.journal === "number" ? { event, mark } : null;
  } catch {
    return null;
  }
}

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
  /** The length of the file's good part. */
  #bytes = 0;
  /** The highest number that survives a power cut. */
  #synced = 0;

  constructor(path: string, { disk, clock, log }: { disk: Disk; clock: Clock; log: Logger }) {
    this.#path = path;
    this.#disk = disk;
    this.#clock = clock;
    this.#log = log;
    const text = disk.read(path) ?? "";
    for (const line of text.split("\n").slice(0, -1)) {
      const row = parsed(line, this.lastSeq + 1);
      // What a kill or a full disk has torn never happened, nor what came after it: it is read again.
      if (!row) break;
      this.#remember(row.event);
      this.mark = row.mark;
      this.#bytes += Buffer.byteLength(line) + 1;
    }
    if (this.#bytes < Buffer.byteLength(text)) {
      log.warn({ path, kept: this.lastSeq }, "the end of an outbox was torn; it is read again");
      disk.truncate(path, this.#bytes);
    }
  }

  #remember(event: Event) {
    this.#events.push(event);
    this.#counts.set(event.type, (this.#counts.get(event.type) ?? 0) + 1);
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

  /**
   * What one line of a run's files says is kept as one: all of it, or none and read again.
   *
   * @throws Error of the disk's, such as ENOSPC; then nothing was added.
   */
  addAll(facts: Fact[], mark: Partial<Mark>) {
    const moved = { ...this.mark, ...mark };
    if (this.#closed) {
      this.mark = moved;
      return;
    }
    const made: Event[] = [];
    for (const fact of facts.filter((one) => this.hears(one))) {
      const seq = this.lastSeq + made.length + 1;
      const event = Event.safeParse({ ...fact, seq, at: this.#clock.now() });
      if (event.success) made.push(event.data);
      // One fact the app would not take must not keep all after it from being sent.
      else this.#log.error({ fact: fact.type, why: event.error.message }, "a fact is malformed");
    }
    if (made.length > 0) this.#append(made, moved);
    this.mark = moved;
    if (made.length === 0) return;
    for (const wake of this.#news.splice(0)) wake();
  }

  #append(events: Event[], mark: Mark) {
    const text = events.map((event) => `${JSON.stringify({ event, mark })}\n`).join("");
    try {
      this.#disk.append(this.#path, text);
      this.#bytes += Buffer.byteLength(text);
    } catch (error) {
      // Half a line in the middle would end the file for its next reader.
      if (this.#disk.exists(this.#path)) this.#disk.truncate(this.#path, this.#bytes);
      throw error;
    }
    for (const event of events) this.#remember(event);
    crashAt("daemon: an event is on disk");
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
        await this.#sync(from + batch.length);
        const answer = await server.events(run, { attempt, events: batch }, state.signal);
        crashAt("daemon: events are sent");
        this.#acknowledged = Math.max(answer.acknowledged, 0);
        this.#skipTo(answer.acknowledged);
        state.succeeded();
        for (const wake of this.#news.splice(0)) wake();
      } catch (error) {
        if (!state.running) return;
        const passing = error instanceof ServerError ? error.passing : isOfDisk(error);
        if (!passing) throw error;
        if (state.failures === 0) this.#log.warn({ run, err: error }, "events wait to be sent");
        await state.backOff(retry);
      }
    }
  }

  /**
   * Resolves when all events survive a power cut: before anything is on record by which they are not read again.
   *
   * @throws Error of the disk's.
   */
  async saved() {
    await this.#sync(this.lastSeq);
  }

  /** What the app knows must be known here after a power cut, or other events get its numbers. */
  async #sync(upTo: number) {
    if (this.#synced >= upTo) return;
    const written = this.lastSeq;
    await this.#disk.sync(this.#path);
    this.#synced = written;
  }

  /** The app has events that are lost here: their numbers must not be given to others. */
  #skipTo(seq: number) {
    const lost: Event[] = [];
    for (let next = this.lastSeq + 1; next <= seq; next++)
      lost.push({ type: "notice", text: "lost on this machine", seq: next, at: this.#clock.now() });
    if (lost.length === 0) return;
    this.#log.error(
      { path: this.#path, events: lost.length },
      "the app has events that are not here",
    );
    this.#append(lost, this.mark);
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
