import type { Fact } from "../../app/protocol/event.ts";
import { places } from "../../images/base/task.ts";
import type { Disk } from "../disk.ts";
import type { Gateway } from "../gateway/gateway.ts";
import { cleanEnd } from "../redact.ts";
import { consume } from "./consume.ts";
import { LineReader } from "./line-reader.ts";
import { transcriptPath } from "./run-record.ts";
import { tailChars, type Watched } from "./watched.ts";

/** Of the agent's output, what is taken to lines at once. */
const pieceBytes = 64 * 1024;

/** Between two counts of the output while it grows. */
const countEveryMs = 5_000;
const transcriptBytesMax = 300 * 2 ** 20;

/** Of one line that an adapter is shown; what is longer is only in the transcript. */
const lineMax = 8 * 2 ** 20;

/** The agent's output: kept in the transcript, and made events by the adapter's reader. */
export class Output {
  offset: number;
  /** All of it has been read. */
  whole = false;
  #watched: Watched;
  #disk: Disk;
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
    this.#transcript = transcriptPath(watched.folder);
    this.#disk = watched.disk;
    if (this.#disk.exists(this.#transcript)) this.#disk.truncate(this.#transcript, mark.transcript);
    else this.#disk.append(this.#transcript, "");
    this.#remember();
    for (const event of events) if (event.type === "output") this.#lines = event.lines;
  }

  /** What an earlier daemon had told of it: the reader learns it again, and nothing is told twice. */
  #remember() {
    const { reader } = this.#watched;
    const lines = (this.#disk.read(this.#transcript) ?? "").split("\n");
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
      const mark = { output: line.end, transcript: this.#bytes };
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
    if (text && this.#bytes < transcriptBytesMax) this.#disk.append(this.#transcript, text);
  }

  #count(last: boolean) {
    const { outbox, clock } = this.#watched;
    const now = clock.now();
    if (this.offset === this.#counted || (!last && now - this.#countedAt < countEveryMs)) return;
    this.#countedAt = now;
    this.#counted = this.offset;
    outbox.add({ type: "output", bytes: this.offset, lines: this.#lines });
  }

  /** Of the transcript so far. */
  get #bytes(): number {
    return this.#disk.size(this.#transcript) ?? 0;
  }

  tail(): string {
    return cleanEnd(this.#disk.read(this.#transcript) ?? "", tailChars);
  }
}
