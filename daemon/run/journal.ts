import type { Fact } from "../../app/protocol/event.ts";
import { type Line as JournalLine, places } from "../../images/base/task.ts";
import type { Gateway } from "../gateway/gateway.ts";
import { cleanEnd, redact } from "../redact.ts";
import { collected, consume } from "./consume.ts";
import { LineReader } from "./line-reader.ts";
import type { Outcome } from "./outcome.ts";
import type { Plan } from "./run-record.ts";
import { tailChars, type Watched } from "./watched.ts";

/** Of a verify command's log, what is read for its receipt. */
const logTailBytes = 32 * 1024;

const receiptTailChars = 7_900;

/** The journal that root inside the container writes: each line is parsed once and told once. */
export class Journal {
  ended = false;
  get began(): boolean {
    return this.#seen > 0;
  }
  over: Promise<void>;
  #over: () => void = () => {};
  #watched: Watched;
  #outcome: Outcome;
  #told: number;
  #seen = 0;
  #reader: LineReader;
  #turn: Promise<void> = Promise.resolve();

  constructor(watched: Watched, outcome: Outcome) {
    this.#watched = watched;
    this.#outcome = outcome;
    this.#told = watched.outbox.mark.journal;
    this.#reader = new LineReader(() => [], 0);
    this.over = new Promise((resolve) => {
      this.#over = resolve;
    });
  }

  /** From the beginning, every time: it is small, and what was told already is only remembered. */
  async follow(gateway: Gateway, signal: AbortSignal) {
    this.#reader = new LineReader(() => [], 0);
    const seenBefore = this.#seen;
    const stream = gateway.follow(places.journal, 0);
    const read = async (path: string) => await collected(gateway.readEnd(path, logTailBytes));
    await consume(stream, signal, (chunk) => {
      for (const line of this.#reader.push(chunk))
        if (line.end > seenBefore) this.#queue(line.text, line.end, read);
      return this.#turn.then(() => this.ended);
    });
  }

  async takeAll(bytes: Buffer, read: (path: string) => Promise<Buffer>) {
    const reader = new LineReader(() => [], 0);
    for (const line of reader.push(bytes))
      if (line.end > this.#seen) this.#queue(line.text, line.end, read);
    await this.#turn;
  }

  #queue(text: string, end: number, read: (path: string) => Promise<Buffer>) {
    this.#seen = end;
    this.#turn = this.#turn.then(() => this.#take(JSON.parse(text), end, read));
  }

  async #take(line: JournalLine, end: number, read: (path: string) => Promise<Buffer>) {
    const { outbox, secrets } = this.#watched;
    const outcome = this.#outcome;
    const fresh = end > this.#told;
    const mark = { journal: end };
    switch (line.type) {
      case "stage":
        if (line.stage === "agent") outcome.agentBegan = true;
        if (fresh) outbox.add({ type: "stage", stage: line.stage }, mark);
        break;
      case "notice":
        if (fresh) outbox.add({ type: "notice", text: line.text }, mark);
        break;
      case "session":
        if (!fresh) break;
        outbox.add(sessionFact(this.#watched.plan, line.restored, line.why), mark);
        if (!line.restored) this.#watched.onSessionLost();
        break;
      case "service": {
        const { name, state, durationMs } = line;
        const tail = cleanEnd(redact(line.tail, secrets), tailChars);
        if (fresh) outbox.add({ type: "service", name, state, durationMs, tail }, mark);
        break;
      }
      case "agent":
        outcome.agent = { exit: line.exit, signal: line.signal, stopReason: line.stopReason };
        break;
      case "receipt": {
        const { index, command, exit, durationMs } = line;
        outcome.receipts.push({ command, exit });
        if (!fresh) break;
        const log = exit === 0 ? "" : (await read(places.verify(index))).toString("utf8");
        const tail = cleanEnd(redact(log, secrets), receiptTailChars);
        outbox.add({ type: "receipt", index, command, exitCode: exit, durationMs, tail }, mark);
        break;
      }
      case "failed":
        outcome.failed = { code: line.code, detail: cleanEnd(line.detail, tailChars) };
        break;
      case "end":
        outcome.stopped = line.stopped;
        outcome.pushed = line.pushed;
        outcome.nothing = line.nothing ?? false;
        this.ended = true;
        this.#over();
        break;
    }
  }
}

function sessionFact({ launch }: Plan, restored: boolean, why: string): Fact {
  if (!restored) return { type: "session", from: "handoff", why: why.slice(0, 300) };
  const since = launch.stale ? "it was told in writing of the runs since" : "";
  return { type: "session", from: "session", why: since };
}
