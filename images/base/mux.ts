import { Duplex, type Readable, type Writable } from "node:stream";

// Many connections over one pair of pipes. A frame is
//
//   type: 1 byte · stream: 4 bytes · length: 4 bytes (both big-endian) · payload
//
// Each side may open streams: the container's end uses odd numbers, the daemon's even ones. Either
// direction of a stream begins with `windowBytes` of credit and is given more as bytes are consumed,
// so a slow reader of one stream never stalls the others.

const frame = { open: 0, data: 1, end: 2, reset: 3, credit: 4 } as const;
const headerBytes = 9;
const windowBytes = 1024 * 1024;
const payloadBytesMax = 64 * 1024;
/** A peer that sends more than this in one frame is broken. */
const frameBytesMax = 1024 * 1024;
const streamsMax = 4096;

/** What a stream is for; the opener says it, the other side decides whether it serves it. */
export type Purpose =
  | { kind: "connection" }
  | { kind: "tail"; path: string; offset: number }
  /** A negative offset counts from the end. */
  | { kind: "read"; path: string; offset: number };

/**
 * Many connections over one pair of streams, each with credit of its own, so that one that is not read holds
 * up no other.
 */
export class Mux {
  #input: Readable;
  #output: Writable;
  #streams = new Map<number, MuxStream>();
  #next: number;
  #buffered: Buffer[] = [];
  #bufferedBytes = 0;
  #onOpen: (purpose: Purpose, stream: MuxStream) => void;
  closed = false;

  constructor(
    input: Readable,
    output: Writable,
    side: "container" | "daemon",
    onOpen: (purpose: Purpose, stream: MuxStream) => void,
  ) {
    this.#input = input;
    this.#output = output;
    this.#next = side === "container" ? 1 : 2;
    this.#onOpen = onOpen;
    input.on("data", (chunk: Buffer) => this.#receive(chunk));
    input.on("end", () => this.close());
    input.on("error", () => this.close());
    input.on("close", () => this.close());
    output.on("error", () => this.close());
    output.on("drain", () => {
      for (const stream of this.#streams.values()) stream.flush();
    });
  }

  open(purpose: Purpose): MuxStream {
    const id = this.#next;
    this.#next += 2;
    const stream = new MuxStream(this, id, windowBytes);
    if (this.closed) {
      stream.destroy(new Error("the tunnel is closed"));
      return stream;
    }
    this.#streams.set(id, stream);
    this.send(frame.open, id, Buffer.from(JSON.stringify(purpose)));
    return stream;
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    for (const stream of this.#streams.values()) stream.destroy(new Error("the tunnel closed"));
    this.#streams.clear();
  }

  /** False when the pipe is full: wait for `flush`. */
  send(type: number, id: number, payload: Buffer): boolean {
    if (this.closed) return true;
    const header = Buffer.allocUnsafe(headerBytes);
    header.writeUInt8(type, 0);
    header.writeUInt32BE(id, 1);
    header.writeUInt32BE(payload.length, 5);
    if (payload.length < 4096) return this.#output.write(Buffer.concat([header, payload]));
    this.#output.write(header);
    return this.#output.write(payload);
  }

  get congested(): boolean {
    return this.#output.writableNeedDrain;
  }

  forget(id: number) {
    this.#streams.delete(id);
  }

  #receive(chunk: Buffer) {
    this.#buffered.push(chunk);
    this.#bufferedBytes += chunk.length;
    for (;;) {
      if (this.#bufferedBytes < headerBytes) return;
      const head = this.#peek(headerBytes);
      const length = head.readUInt32BE(5);
      if (length > frameBytesMax) {
        this.#input.destroy(new Error("a frame is too large"));
        return;
      }
      if (this.#bufferedBytes < headerBytes + length) return;
      const whole = this.#take(headerBytes + length);
      this.#dispatch(whole.readUInt8(0), whole.readUInt32BE(1), whole.subarray(headerBytes));
    }
  }

  #peek(bytes: number): Buffer {
    const first = this.#buffered[0];
    if (first && first.length >= bytes) return first;
    this.#buffered = [Buffer.concat(this.#buffered)];
    return this.#buffered[0] ?? Buffer.alloc(0);
  }

  #take(bytes: number): Buffer {
    const all = this.#peek(bytes);
    const whole = all.length >= bytes ? all : Buffer.concat(this.#buffered);
    if (whole !== all) this.#buffered = [whole];
    const rest = whole.subarray(bytes);
    if (rest.length > 0) this.#buffered[0] = rest;
    else this.#buffered.shift();
    this.#bufferedBytes -= bytes;
    return whole.subarray(0, bytes);
  }

  #dispatch(type: number, id: number, payload: Buffer) {
    if (type === frame.open) return this.#accept(id, payload);
    const stream = this.#streams.get(id);
    if (!stream) {
      if (type === frame.data) this.send(frame.reset, id, Buffer.alloc(0));
      return;
    }
    if (type === frame.data) stream.receive(payload);
    else if (type === frame.end) stream.receiveEnd();
    else if (type === frame.credit) stream.receiveCredit(payload.readUInt32BE(0));
    else if (type === frame.reset) stream.receiveReset();
  }

  #accept(id: number, payload: Buffer) {
    if (this.#streams.size >= streamsMax || this.#streams.has(id)) {
      this.send(frame.reset, id, Buffer.alloc(0));
      return;
    }
    const stream = new MuxStream(this, id, windowBytes);
    this.#streams.set(id, stream);
    let purpose: Purpose;
    try {
      purpose = JSON.parse(payload.toString("utf8"));
    } catch {
      stream.destroy();
      return;
    }
    this.#onOpen(purpose, stream);
  }
}

/** One connection; enough of a socket for `http.Server` to take it as one. */
export class MuxStream extends Duplex {
  #mux: Mux;
  #id: number;
  #credit: number;
  #consumed = 0;
  #waiting: { rest: Buffer; done: (error?: Error | null) => void } | null = null;
  #reset = false;

  constructor(mux: Mux, id: number, credit: number) {
    super({ allowHalfOpen: true });
    this.#mux = mux;
    this.#id = id;
    this.#credit = credit;
    // A tunnel that closes ends its streams with an error; without a listener that ends the process.
    this.on("error", () => {});
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void) {
    this.#waiting = { rest: chunk, done };
    this.flush();
  }

  /** Sends as much as credit and pipe allow. */
  flush() {
    const waiting = this.#waiting;
    if (!waiting) return;
    while (waiting.rest.length > 0) {
      if (this.#credit === 0 || this.#mux.congested) return;
      const size = Math.min(waiting.rest.length, this.#credit, payloadBytesMax);
      this.#mux.send(frame.data, this.#id, waiting.rest.subarray(0, size));
      this.#credit -= size;
      waiting.rest = waiting.rest.subarray(size);
    }
    this.#waiting = null;
    waiting.done();
  }

  override _final(done: (error?: Error | null) => void) {
    this.#mux.send(frame.end, this.#id, Buffer.alloc(0));
    done();
  }

  override _read() {
    if (this.#consumed === 0) return;
    const credit = Buffer.alloc(4);
    credit.writeUInt32BE(this.#consumed, 0);
    this.#consumed = 0;
    this.#mux.send(frame.credit, this.#id, credit);
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void) {
    const finished = this.readableEnded && this.writableFinished;
    if (!finished && !this.#reset) this.#mux.send(frame.reset, this.#id, Buffer.alloc(0));
    this.#mux.forget(this.#id);
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.done(error ?? new Error("the stream was destroyed"));
    done(error);
  }

  receive(payload: Buffer) {
    this.#consumed += payload.length;
    this.push(payload);
  }
  receiveEnd() {
    this.push(null);
  }
  receiveCredit(bytes: number) {
    this.#credit += bytes;
    this.flush();
  }
  receiveReset() {
    this.#reset = true;
    this.destroy();
  }

  // http.Server asks these of a socket; a stream over pipes has nothing to set.
  setTimeout() {
    return this;
  }
  setNoDelay() {
    return this;
  }
  setKeepAlive() {
    return this;
  }
  ref() {
    return this;
  }
  unref() {
    return this;
  }
}
