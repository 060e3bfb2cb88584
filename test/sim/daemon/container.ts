import { Duplex, PassThrough, Transform } from "node:stream";
import type { Carrier } from "../../../daemon/docker/engine.ts";
import { Mux, type MuxStream, type Purpose } from "../../../images/base/mux.ts";
import { type Line, places, type Task } from "../../../images/base/task.ts";
import { between, type Process, type World } from "../world.ts";
import type { Work } from "./work.ts";

// A container as a model: what its entrypoint does, as far as the daemon can see it. Between the two is the
// real tunnel, with an HTTP request a push.

type Json = { [key: string]: unknown };
const stepMs = { least: 2_000, most: 15_000 };
const retryMs = 1_000;
const exitMs = 100;

/** A run's workspace; it outlives its container. */
export type Volume = {
  name: string;
  run: string;
  /** The checkout's commit; null: nothing was cloned yet. */
  head: string | null;
  /** Edits that nobody has committed. */
  drafts: string[];
};

type Parts = {
  world: World;
  work: Work;
  volume: Volume;
  /** Which of all containers of its volume it is. */
  count: number;
  onAgent: () => void;
  onEnd: () => void;
};

export class Container {
  readonly name: string;
  readonly volume: Volume;
  readonly ended: Promise<void>;
  running = true;
  journal = "";
  readonly #parts: Parts;
  readonly #process: Process;
  readonly #stopping = new AbortController();
  readonly #tails = new Set<() => void>();
  #end: () => void = () => {};
  #tunnel: { mux: Mux; carrier: Carrier } | null = null;
  #hasTask = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.name = parts.volume.name;
    this.volume = parts.volume;
    this.#process = parts.world.process(`${this.name}-container-${parts.count}`);
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  hand(task: string) {
    if (this.#hasTask || !this.running) return;
    this.#hasTask = true;
    void this.#live(JSON.parse(task) as Task);
  }

  /** Without its task it ends by itself. */
  abandon() {
    if (!this.#hasTask) this.kill();
  }

  stop() {
    this.#parts.world.touch();
    this.#stopping.abort();
  }

  kill() {
    if (!this.running) return;
    this.#parts.world.touch();
    this.running = false;
    this.#process.kill();
    this.cutTunnel();
    this.#parts.onEnd();
    this.#end();
  }

  cutTunnel() {
    const tunnel = this.#tunnel;
    this.#tunnel = null;
    tunnel?.mux.close();
    tunnel?.carrier.input.destroy();
    tunnel?.carrier.output.destroy();
  }

  /** The container's end of a new tunnel; the one before is gone. */
  openTunnel(): Carrier {
    this.cutTunnel();
    const touch = () => this.#parts.world.touch();
    const [down, up] = [pipeOf(touch), pipeOf(touch)];
    const mux = new Mux(down, up, "container", (purpose, stream) => this.#serve(purpose, stream));
    const input = Duplex.from({ writable: down, readable: new PassThrough() });
    input.on("error", () => {});
    const carrier = { input, output: up };
    this.#tunnel = { mux, carrier };
    return carrier;
  }

  #serve(purpose: Purpose, stream: MuxStream) {
    if (purpose.kind === "connection") return stream.destroy();
    stream.resume();
    const text = purpose.path === places.journal ? () => this.journal : () => "";
    let at = Math.max(0, purpose.offset);
    const more = () => {
      if (stream.destroyed) return this.#tails.delete(more);
      const all = text();
      if (all.length > at) stream.write(all.slice(at));
      at = Math.max(at, all.length);
      return true;
    };
    more();
    if (purpose.kind === "tail") this.#tails.add(more);
    else stream.end();
  }

  #say(line: Json & { type: Line["type"] }) {
    this.journal += `${JSON.stringify({ at: this.#parts.world.now, ...line })}\n`;
    this.#parts.world.say(this.name, ...Object.values(line));
    for (const tell of [...this.#tails]) tell();
    this.#parts.world.touch();
  }

  async #live(task: Task) {
    const { chance } = this.#process.clock;
    const { volume } = this;
    const nothing = task.mode === "rescue" && volume.head === null;
    if (task.mode === "run") {
      this.#say({ type: "stage", stage: "cloning" });
      const head = await this.#insist("head", {}, task.awayMs);
      if (head === null) {
        this.#say({ type: "failed", code: "clone_failed", detail: "nobody answered" });
        return await this.#exit(false);
      }
      volume.head = head;
      this.#say({ type: "stage", stage: "agent" });
      this.#parts.onAgent();
      await this.#agent(1 + Math.floor(chance() * 3));
      if (this.#stopping.signal.aborted) this.#say({ type: "notice", text: "stopped" });
      this.#say({ type: "agent", exit: 0, signal: null, stopReason: null });
    }
    this.#say({ type: "stage", stage: "committing" });
    await this.#process.pause(between(chance, 50, 500));
    this.#commit();
    this.#say({ type: "stage", stage: "pushing" });
    const head = volume.head;
    const pushed = head === null || (await this.#insist("push", { head }, task.awayMs)) !== null;
    await this.#exit(pushed, nothing);
  }

  async #exit(pushed: boolean, nothing = false) {
    this.#say({ type: "end", stopped: this.#stopping.signal.aborted, pushed, nothing });
    await this.#process.pause(exitMs);
    this.kill();
  }

  /** Edits and commits, each pushed when there is a way. */
  async #agent(steps: number) {
    const { clock } = this.#process;
    for (let step = 0; step < steps && !this.#stopping.signal.aborted; step++) {
      await clock.sleep(between(clock.chance, stepMs.least, stepMs.most), this.#stopping.signal);
      this.volume.drafts.push(this.#parts.work.edit(this.volume.run));
      if (clock.chance() < 0.3) continue;
      this.#commit();
      void this.#ask("push", { head: this.volume.head }).catch(() => {});
    }
  }

  #commit() {
    const { volume } = this;
    if (volume.drafts.length === 0 || volume.head === null) return;
    volume.head = this.#parts.work.commit(volume.head, volume.drafts);
    volume.drafts = [];
  }

  /** Asks until it is answered with yes; null: not within `ms`. */
  async #insist(what: string, body: Json, ms: number): Promise<string | null> {
    const { clock } = this.#process;
    for (const until = clock.now() + ms; clock.now() < until; ) {
      const answer = await this.#ask(what, body).catch(() => null);
      if (answer !== null) return answer;
      await this.#process.pause(retryMs);
    }
    return null;
  }

  /** One HTTP request through the tunnel; gives the answer's body. */
  async #ask(what: string, body: Json): Promise<string> {
    const { clock } = this.#process;
    await this.#process.pause(between(clock.chance, 5, 100));
    const { mux } = this.#tunnel ?? {};
    if (!mux) throw new Error("no tunnel");
    const text = JSON.stringify(body);
    const stream = mux.open({ kind: "connection" });
    const head = `POST /repository.git/${what} HTTP/1.1\r\nhost: gateway\r\nconnection: close`;
    stream.write(`${head}\r\ncontent-length: ${text.length}\r\n\r\n${text}`);
    let answer = "";
    for await (const chunk of stream) answer += chunk;
    this.#parts.world.touch();
    if (!/^HTTP\/1\.1 200 /.test(answer)) throw new Error(answer.split("\r\n")[0]);
    return /\r\n\r\n(?:[0-9a-f]+\r\n)?(\w*)/.exec(answer)?.[1] ?? "";
  }
}

/** A pipe that tells of each piece it carries. */
function pipeOf(touch: () => void): Transform {
  return new Transform({
    transform(chunk, _encoding, done) {
      touch();
      done(null, chunk);
    },
  });
}
