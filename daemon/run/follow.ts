import {
  appendFileSync,
  existsSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { Logger } from "pino";
import type { Clock } from "../../app/protocol/clock.ts";
import type { Failure } from "../../app/protocol/failure.ts";
import type { Fact } from "../../app/protocol/wire.ts";
import { type Cut, type Line as JournalLine, places } from "../../images/base/task.ts";
import type { Problem, Reader } from "../agents/adapter.ts";
import type { Config } from "../config.ts";
import {
  askToStop,
  type Carrier,
  type Container,
  logsOf,
  openExec,
  readFileOf,
  stateOf,
  waitForEnd,
} from "../docker/container.ts";
import type { Attempt } from "../gateway/egress.ts";
import { type Doors, type Gateway, openGateway } from "../gateway/gateway.ts";
import type { Meter } from "../gateway/meter.ts";
import { LineReader, redact } from "../redact.ts";
import type { Pusher } from "../repository/pusher.ts";
import type { Outbox } from "../server/outbox.ts";
import type { Plan } from "./run-record.ts";

/** What came of a container, put together from its journal, its output and its end. */
export type Story = {
  agent: {
    exit: number | null;
    signal: string | null;
    cut: Cut | null;
  } | null;
  /** Why the agent's work does not count, by its own output and exit. */
  agentProblem: Problem | null;
  receipts: { command: string; exit: number }[];
  failed: Failure | null;
  outOfMemory: boolean;
  /** It ended before its work did. */
  died: boolean;
  /** It had its task and wrote something; else nothing of it has happened. */
  began: boolean;
  /** The end of the agent's output, clean. */
  tail: string;
};

/** Why a job is over when the daemon itself goes: the container works on, and the next daemon finds it. */
export const leaving = "the daemon leaves";

/** The story of a container that an earlier daemon saw die. */
export function died(known: { outOfMemory: boolean; tail: string }): Story {
  const { outOfMemory, tail } = known;
  return { ...blank(), died: true, began: true, outOfMemory, tail };
}

function blank(): Story {
  return {
    agent: null,
    agentProblem: null,
    receipts: [],
    failed: null,
    outOfMemory: false,
    died: false,
    began: false,
    tail: "",
  };
}

/** Beyond the container's own deadline: then it is ended from outside. */
const lateMs = 2 * 60_000;
/** How long a stopped container may take to commit what is there. */
const stopMsMax = 60_000;
/** And one whose lease is about to end: then somebody else may begin. */
const lostStopMsMax = 12_000;
/** Of a verify command's log, what is read for its receipt. */
const logTailBytes = 32 * 1024;
/** Of the agent's output, what is taken to lines at once. */
const pieceBytes = 64 * 1024;
const collectedBytesMax = 80 * 2 ** 20;
const tailChars = 3_500;
const receiptTailChars = 7_900;
/** Between two counts of the output while it grows. */
const countEveryMs = 5_000;
const transcriptBytesMax = 300 * 2 ** 20;

type Watched = {
  config: Config;
  clock: Clock;
  log: Logger;
  folder: string;
  outbox: Outbox;
  secrets: Set<string>;
  cancel: AbortController;
  over: AbortController;
  container: Container;
  /** The tunnel's process, when it was begun with the container; null: there is none yet. */
  carrier: Promise<Carrier | null> | null;
  /** What the container finds behind its gateway. */
  doors: Doors;
  plan: Plan;
  reader: Reader;
  /** The agent's session could not be put back: it begins one. */
  lostMemory: () => void;
  meter: Meter;
  /** Attempts to reach the web, told once each. */
  attempt: (attempt: Attempt) => void;
  /** Aborts when more requests to the model would lead nowhere, or the budget is spent. */
  hopeless: AbortSignal;
  pusher: Pusher;
};

/**
 * Follows a container to its end: its journal, its output, and its pushes, through the tunnel; from
 * where an earlier daemon stopped, when there was one.
 */
export async function follow(watched: Watched): Promise<Story> {
  const { container, cancel, over, clock, plan, hopeless } = watched;
  const story = blank();
  const done = new AbortController();
  const journal = new Journal(watched, story);
  const output = new Output(watched);
  const late = new AbortController();
  const stop = () => {
    if (over.signal.reason === leaving) return;
    askToStop(container).catch((error) =>
      watched.log.warn({ err: error }, "could not ask the container to stop"),
    );
  };
  cancel.signal.addEventListener("abort", stop);
  over.signal.addEventListener("abort", stop);
  hopeless.addEventListener("abort", stop);
  if (hopeless.aborted) stop();
  if (cancel.signal.aborted || over.signal.aborted) stop();
  late.signal.addEventListener("abort", stop);
  const timer = setTimeout(() => late.abort(), plan.minutes * 60_000 + lateMs);
  const gone = waitForEnd(container);
  try {
    const tunnel = keepTunnel(watched, journal, output, done.signal);
    const patience = stopped(watched, clock, late.signal, done.signal);
    await Promise.race([tunnel, gone, patience]);
    done.abort();
    await tunnel;
    if (!journal.ended || !output.whole) await readRest(watched, journal, output);
  } finally {
    done.abort();
    clearTimeout(timer);
    cancel.signal.removeEventListener("abort", stop);
    over.signal.removeEventListener("abort", stop);
    hopeless.removeEventListener("abort", stop);
  }
  watched.meter.flush();
  const state = await stateOf(container);
  story.outOfMemory = state?.outOfMemory ?? false;
  story.died = !journal.ended;
  story.began = journal.began;
  story.tail = output.tail();
  if (story.died) story.tail = cleanEnd(`${story.tail}\n${await logsOf(container)}`, tailChars);
  if (story.agent) story.agentProblem = watched.reader.end(story.agent);
  return story;
}

/** Resolves when a container that was asked to stop has had its time. */
async function stopped(
  { cancel, over, hopeless, container }: Watched,
  clock: Clock,
  late: AbortSignal,
  done: AbortSignal,
) {
  const asked = AbortSignal.any([cancel.signal, over.signal, late, hopeless]);
  if (!asked.aborted)
    await new Promise<void>((resolve) => {
      asked.addEventListener("abort", () => resolve(), { once: true });
      done.addEventListener("abort", () => resolve(), { once: true });
    });
  if (done.aborted) return;
  // The daemon leaves: the container goes on, the next daemon finds it.
  if (over.signal.reason === leaving) return;
  await clock.sleep(over.signal.aborted ? lostStopMsMax : stopMsMax, done);
  if (!done.aborted) await container.kill().catch(() => {});
}

/** The container's end of the tunnel, as a process of it that has no right at all. */
export function openTunnel(container: Container): Promise<Carrier> {
  return openExec(container, ["/opt/trimo/node/bin/node", "/opt/trimo/tunnel.js"]);
}

/** Opens the tunnel, and again when it breaks while the container lives, until the journal's end. */
async function keepTunnel(watched: Watched, journal: Journal, output: Output, done: AbortSignal) {
  const { container, doors, plan, config, pusher, clock, log } = watched;
  const rules = {
    mode: config.egress.mode,
    machine: config.egress.allow,
    repository: plan.allow,
    forge: new URL(config.github).hostname,
  };
  const on = { pushed: () => pusher.nudge(), attempt: watched.attempt };
  for (let tries = 0; !done.aborted && !journal.ended; tries++) {
    let gateway: Gateway;
    try {
      const ahead = tries === 0 ? await watched.carrier : null;
      const carrier = ahead ?? (await openTunnel(container));
      gateway = openGateway(carrier, doors, rules, on);
    } catch (error) {
      if (tries > 0) log.warn({ err: error }, "the tunnel could not be opened");
      const state = await stateOf(container).catch(() => null);
      if (!state?.running) return;
      await clock.sleep(Math.min(2_000, 50 * 2 ** tries), done);
      continue;
    }
    const broken = new AbortController();
    void gateway.closed.then(() => broken.abort());
    const ends = AbortSignal.any([done, broken.signal]);
    try {
      await Promise.all([
        journal.follow(gateway, ends),
        output.follow(gateway, ends, journal.over),
      ]);
      if (journal.ended && !broken.signal.aborted) await output.rest(gateway, broken.signal);
    } finally {
      gateway.close();
    }
    if (!journal.ended) await clock.sleep(100, done);
  }
}

/** From a container that has stopped: what it wrote and nobody had read. */
async function readRest({ container, over }: Watched, journal: Journal, output: Output) {
  if (over.signal.aborted) return;
  const lines = await readFileOf(container, places.journal);
  await journal.takeAll(lines, async (path) => await readFileOf(container, path));
  output.take((await readFileOf(container, places.output)).subarray(output.offset));
  output.finish();
}

/** What root wrote down inside: parsed once, told once. */
class Journal {
  ended = false;
  get began(): boolean {
    return this.#seen > 0;
  }
  over: Promise<void>;
  #over: () => void = () => {};
  #watched: Watched;
  #story: Story;
  #told: number;
  #seen = 0;
  #reader: LineReader;
  #turn: Promise<void> = Promise.resolve();

  constructor(watched: Watched, story: Story) {
    this.#watched = watched;
    this.#story = story;
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
    const story = this.#story;
    const fresh = end > this.#told;
    const mark = { journal: end };
    switch (line.type) {
      case "stage":
        if (fresh) outbox.add({ type: "stage", stage: line.stage }, mark);
        break;
      case "notice":
        if (fresh) outbox.add({ type: "notice", text: line.text }, mark);
        break;
      case "memory":
        if (!fresh) break;
        outbox.add(sessionFact(this.#watched.plan, line.restored, line.why), mark);
        if (!line.restored) this.#watched.lostMemory();
        break;
      case "service": {
        const { name, state, durationMs } = line;
        const tail = cleanEnd(redact(line.tail, secrets), tailChars);
        if (fresh) outbox.add({ type: "service", name, state, durationMs, tail }, mark);
        break;
      }
      case "agent":
        story.agent = { exit: line.exit, signal: line.signal, cut: line.cut };
        break;
      case "receipt": {
        const { index, command, exit, durationMs } = line;
        story.receipts.push({ command, exit });
        if (!fresh) break;
        const log = exit === 0 ? "" : (await read(places.verify(index))).toString("utf8");
        const tail = cleanEnd(redact(log, secrets), receiptTailChars);
        outbox.add({ type: "receipt", index, command, exitCode: exit, durationMs, tail }, mark);
        break;
      }
      case "failed":
        story.failed = { code: line.code, detail: cleanEnd(line.detail, tailChars) };
        break;
      case "end":
        this.ended = true;
        this.#over();
        break;
    }
  }
}

function sessionFact({ launch }: Plan, restored: boolean, why: string): Fact {
  if (!restored) return { type: "session", from: "handover", why: why.slice(0, 300) };
  const since = launch.stale ? "it was told in writing of the runs since" : "";
  return { type: "session", from: "session", why: since };
}

/** Of one line that an adapter is shown; what is longer is only in the transcript. */
const lineMax = 8 * 2 ** 20;

/** The agent's output: to the transcript, and through the adapter's reader to events. */
class Output {
  offset: number;
  /** All of it has been read. */
  whole = false;
  #watched: Watched;
  #reader: LineReader;
  #transcript: string;
  #lines = 0;
  #countedAt = 0;
  #counted = 0;
  /** The pieces of a line that is too long to come at once. */
  #pieces = "";

  constructor(watched: Watched) {
    this.#watched = watched;
    const { mark, events } = watched.outbox;
    this.offset = mark.output;
    this.#reader = this.#newReader();
    this.#transcript = join(watched.folder, "transcript.log");
    if (existsSync(this.#transcript)) truncateSync(this.#transcript, mark.transcript);
    else writeFileSync(this.#transcript, "", { mode: 0o600 });
    this.#remember();
    for (const event of events) if (event.type === "output") this.#lines = event.lines;
  }

  /** What an earlier daemon had told of it: the reader learns it again, and nothing is told twice. */
  #remember() {
    const { reader } = this.#watched;
    const lines = readFileSync(this.#transcript, "utf8").split("\n");
    for (const line of lines) if (line.length <= lineMax) reader.read(line);
  }

  #newReader() {
    return new LineReader(() => this.#watched.secrets, this.offset);
  }

  async follow(gateway: Gateway, signal: AbortSignal, over: Promise<void>) {
    const stream = gateway.follow(places.output, this.offset);
    void over.then(() => stream.destroy());
    await consume(stream, signal, (chunk) => {
      this.take(chunk);
      return Promise.resolve(false);
    });
  }

  /** Everything up to the file's end; not, when the tunnel breaks on the way. */
  async rest(gateway: Gateway, broken: AbortSignal) {
    const stream = gateway.read(places.output, this.offset);
    await consume(stream, new AbortController().signal, async (chunk) => {
      this.take(chunk);
      return false;
    });
    if (!broken.aborted) this.finish();
  }

  /** Its last line may have no end. */
  finish() {
    this.whole = true;
    this.#handle(this.#reader.flush());
    this.#count(true);
  }

  /** In pieces: 64 MB of short lines at once would be gigabytes of small objects. */
  take(bytes: Buffer) {
    for (let at = 0; at < bytes.length; at += pieceBytes) {
      const piece = bytes.subarray(at, at + pieceBytes);
      this.offset += piece.length;
      this.#handle(this.#reader.push(piece));
      this.#count(false);
    }
  }

  #handle(lines: { text: string; end: number; whole: boolean }[]) {
    const { outbox } = this.#watched;
    let text = "";
    for (const line of lines) {
      text += line.whole ? `${line.text}\n` : line.text;
      this.#lines += line.whole ? 1 : 0;
      const facts = this.#factsOf(line).filter((fact) => outbox.hears(fact));
      if (facts.length === 0) continue;
      this.#write(text);
      text = "";
      const mark = { output: line.end, transcript: statSync(this.#transcript).size };
      outbox.addAll(facts, mark);
    }
    this.#write(text);
  }

  /** Of a whole line; of its pieces nothing. What it has cost goes to the meter. */
  #factsOf(line: { text: string; whole: boolean }): Fact[] {
    const { reader, meter } = this.#watched;
    const whole = this.#pieces + line.text;
    this.#pieces = line.whole || whole.length > lineMax ? "" : whole;
    if (!line.whole || whole.length > lineMax) return [];
    return reader.read(whole).filter((fact) => {
      if (fact.type !== "usage") return true;
      meter.agentSays(fact, reader.end({ exit: 0, signal: null }) === null);
      return false;
    });
  }

  #write(text: string) {
    if (text && statSync(this.#transcript).size < transcriptBytesMax)
      appendFileSync(this.#transcript, text);
  }

  #count(last: boolean) {
    const { outbox, clock } = this.#watched;
    const now = clock.now();
    if (this.offset === this.#counted || (!last && now - this.#countedAt < countEveryMs)) return;
    this.#countedAt = now;
    this.#counted = this.offset;
    outbox.add({ type: "output", bytes: this.offset, lines: this.#lines });
  }

  tail(): string {
    const text = readFileSync(this.#transcript, "utf8");
    return cleanEnd(text, tailChars);
  }
}

/** Hands a stream's chunks on until it ends, `signal` aborts, or `take` says that is all. */
async function consume(
  stream: Readable,
  signal: AbortSignal,
  take: (chunk: Buffer) => Promise<boolean>,
) {
  const end = () => stream.destroy();
  signal.addEventListener("abort", end, { once: true });
  let failure: { error: unknown } | null = null;
  try {
    for await (const chunk of stream) {
      const enough = await take(chunk as Buffer).catch((error) => {
        failure = { error };
        return true;
      });
      if (enough) break;
    }
  } catch {
    // The tunnel broke or was closed: whoever opened it decides what now.
  } finally {
    signal.removeEventListener("abort", end);
    stream.destroy();
  }
  if (failure) throw (failure as { error: unknown }).error;
}

async function collected(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  await consume(stream, new AbortController().signal, async (chunk) => {
    chunks.push(chunk);
    bytes += chunk.length;
    return bytes > collectedBytesMax;
  });
  return Buffer.concat(chunks);
}

/** The end of a text without terminal escapes and control characters. */
export function cleanEnd(text: string, chars: number): string {
  return (
    text
      .slice(-4 * chars)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
      .replace(/\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-_])/g, "")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "")
      .trim()
      .slice(-chars)
  );
}
