import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../../app/protocol/clock.ts";
import type { Message } from "../../app/protocol/renew.ts";

/** How long an agent's question for more is held open, in milliseconds. */
const heldMs = 25_000;

/** The messages of people to a run while it works, for the driver inside to fetch. */
export class Messages {
  /** The number of the last one that came from the app; 0: none. */
  received: number;
  readonly #clock: Clock;
  readonly #all: Message[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #onDelivered: (message: Message) => void;
  #deliveredTo: number;

  /**
   * `last`: the number an earlier daemon had got to. `onDelivered`: told of each that has arrived, once: who asks
   * for the next has the one before.
   */
  constructor(clock: Clock, last: number, onDelivered: (message: Message) => void) {
    this.#clock = clock;
    this.received = last;
    this.#deliveredTo = last;
    this.#onDelivered = onDelivered;
  }

  /** Takes what the app has sent; what is here already is passed over. */
  take(fresh: Message[]) {
    for (const message of fresh)
      if (message.id > this.received) {
        this.#all.push(message);
        this.received = message.id;
      }
    for (const wake of [...this.#waiting]) wake();
  }

  /** Answers `GET /messages?after=N`: the next message as JSON, or 204 after a while. */
  serve(request: IncomingMessage, response: ServerResponse) {
    const after = Number(new URL(request.url ?? "/", "http://gateway").searchParams.get("after"));
    const over = new AbortController();
    const done = () => {
      over.abort();
      this.#waiting.delete(wake);
    };
    const wake = () => {
      const message = this.#all.find(({ id }) => id > after);
      if (!message) return;
      done();
      response.writeHead(200, { "content-type": "application/json" });
      response.end(JSON.stringify({ id: message.id, text: message.text }));
    };
    void this.#clock.sleep(heldMs, over.signal).then(() => {
      if (over.signal.aborted) return;
      done();
      response.writeHead(204).end();
    });
    response.on("close", done);
    this.#arrivedUpTo(after);
    this.#waiting.add(wake);
    wake();
  }

  #arrivedUpTo(id: number) {
    for (const message of this.#all) {
      if (message.id <= this.#deliveredTo || message.id > id) continue;
      this.#deliveredTo = message.id;
      this.#onDelivered(message);
    }
  }
}
