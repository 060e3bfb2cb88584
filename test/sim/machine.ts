import type { Event, Fact } from "../../app/protocol/event.ts";
import type { HelloAnswer } from "../../app/protocol/hello.ts";
import type { Job } from "../../app/protocol/job.ts";
import type { Settle } from "../../app/protocol/settle.ts";
import { protocolVersion } from "../../app/protocol/version.ts";
import type { Faults } from "./faults.ts";
import type { GitHubState } from "./github-state.ts";
import { createNetwork, type Reach } from "./network.ts";
import type { Item } from "./story.ts";
import { between, type Process, type World } from "./world.ts";

// A daemon as a model: it keeps to the protocol as the real one does, and its runs are a few commits. Its
// disk outlives it.

export type Parts = {
  world: World;
  faults: Faults;
  github: GitHubState;
  reach: Reach;
  /** The stream of wake-ups. */
  stream: (token: string) => Promise<Response>;
  watch: Watch;
};

/** Is told what machines do, for the invariants. */
type Watch = {
  begins(machine: string, job: Pick<Job, "run">): void;
  ends(machine: string, job: Pick<Job, "run">): void;
  pushes(machine: string, job: Pick<Job, "run" | "attempt">): Promise<void>;
};

const slots = 2;
const renewEveryMs = 20_000;
/** A container is stopped so long before its lease ends. */
const stopBeforeMs = 30_000;

/** What a machine's disk has of one run. */
type Saved = {
  job: Job;
  events: Event[];
  commits: number;
  done: number;
  head: string | null;
  end: Settle | null;
};
/** A run in hand. */
type Held = { cancelled: boolean; lost: boolean; hasStarted: boolean; goodUntil: number };

/** A machine: `kill` ends its daemon, `start` begins one. */
export type Machine = {
  name: string;
  start(): void;
  kill(): void;
  wake(): void;
  cancel(run: string): void;
  isIdle(): boolean;
  /** Something breaks here. */
  strike(item: Item): void;
  /** Nothing is broken any more. */
  calm(): void;
  /** What of ended runs is still here, and should not be. */
  leftovers(): string[];
  /** Of what agents made, what is here: kept, or in hand. */
  edits(): string[];
};

/** Makes a machine that is off. */
export function createMachine(parts: Parts, name: string, token: string): Machine {
  const disk = new Map<string, Saved>();
  let starts = 0;
  let life: Life | null = null;
  const start = () => {
    if (life?.process.alive) return;
    starts += 1;
    parts.world.say(name, "starts");
    life = new Life({ ...parts, name, token, disk, start: `start-${starts}` });
    void life.live();
  };
  return {
    name,
    start,
    kill: () => {
      parts.world.say(name, "is killed");
      life?.kill();
    },
    wake: () => life?.wake(),
    cancel: (run: string) => life?.cancel(run),
    isIdle: () => disk.size === 0,
    strike() {},
    calm() {},
    leftovers: () => [],
    edits: () => [],
  };
}

type LifeParts = Parts & {
  name: string;
  token: string;
  disk: Map<string, Saved>;
  start: string;
};

/** One life of a machine's daemon, until it is killed. */
class Life {
  readonly process: Process;
  readonly #parts: LifeParts;
  readonly #chance: () => number;
  readonly #held = new Map<string, Held>();
  readonly #signal = new AbortController().signal;
  readonly #post: ReturnType<typeof createNetwork>;
  #sleeping: AbortController | null = null;
  #keys = 0;

  constructor(parts: LifeParts) {
    this.#parts = parts;
    this.process = parts.world.process(parts.name);
    this.#chance = this.process.clock.chance;
    this.#post = createNetwork({ ...parts, process: this.process });
  }

  kill() {
    this.process.kill();
    for (const [run] of this.#held) {
      const saved = this.#parts.disk.get(run);
      if (saved) this.#parts.watch.ends(this.#parts.name, saved.job);
    }
  }

  wake() {
    if (this.process.alive) this.#sleeping?.abort();
  }

  cancel(run: string) {
    const held = this.#held.get(run);
    if (held && this.process.alive) held.cancelled = true;
  }

  async live() {
    const { github } = this.#parts;
    let key = this.#newKey();
    for (let greeted = false; this.process.alive; ) {
      try {
        greeted = greeted && [...this.#parts.disk.keys()].every((run) => this.#held.has(run));
        if (!greeted) await this.#greet();
        greeted = true;
        if (this.#held.size < slots) {
          const answer = await this.#post("claim", { key });
          if (answer.status === 200) {
            key = this.#newKey();
            const { job } = answer.body as { job: Job | null };
            if (job) {
              this.#take(job);
              continue;
            }
          }
        }
      } catch {
        // Nobody answered: asked again after the pause.
      }
      this.#sleeping = new AbortController();
      const pause = github.calm ? 20_000 : between(this.#chance, 2_000, 20_000);
      await this.process.clock.sleep(pause, this.#sleeping.signal);
    }
  }

  #newKey(): string {
    this.#keys += 1;
    return `${this.#parts.start}-${this.#keys}`;
  }

  async #greet() {
    const { disk, start } = this.#parts;
    const held = [...disk.values()].map(({ job }) => ({ run: job.run, attempt: job.attempt }));
    const about = { protocol: protocolVersion, version: "0", slots, start, held };
    const answer = await this.#post("hello", { ...about, repositories: ["*"], agents: ["hello"] });
    if (answer.status !== 200) throw new Error(`hello: ${answer.status}`);
    for (const { run, verdict } of (answer.body as HelloAnswer).verdicts) {
      const saved = disk.get(run);
      if (!saved || this.#held.has(run)) continue;
      if (verdict === "kill") disk.delete(run);
      else {
        void this.#work(saved, verdict === "rescue" ? "rescue" : "run");
        if (verdict === "cancel") this.cancel(run);
      }
    }
  }

  #take(job: Job) {
    const { world, name, disk } = this.#parts;
    world.say(name, "takes run", job.number, "of", `#${job.issue}`, `attempt ${job.attempt}`);
    const commits = 1 + Math.floor(this.#chance() * 3);
    const saved = { job, events: [], commits, done: 0, head: null, end: null };
    disk.set(job.run, saved);
    void this.#work(saved, "run");
  }

  async #work(saved: Saved, mode: "run" | "rescue") {
    const { job } = saved;
    const { watch, name, disk, world } = this.#parts;
    const goodUntil = world.now + job.leaseMs;
    const held = { cancelled: false, lost: false, hasStarted: false, goodUntil };
    this.#held.set(job.run, held);
    if (mode === "run") {
      watch.begins(name, job);
      void this.#keepLease(saved, held);
    }
    if (saved.events.length === 0) await this.#tell(saved, held, begun);
    else await this.#sendEvents(saved, held);
    if (mode === "run") await this.#commit(saved, held);
    watch.ends(name, job);
    if (!this.process.alive) return;
    if (!held.lost) {
      saved.end ??= endOf(saved, held.cancelled || mode === "rescue");
      const answer = await this.#insist(`runs/${job.run}/settle`, saved.end, held);
      if (!this.process.alive) return;
      world.say(
        name,
        "ends run",
        job.number,
        "of",
        `#${job.issue}`,
        saved.end.outcome,
        answer?.status,
      );
      if (answer) disk.delete(job.run);
    } else world.say(name, "has lost run", job.number, "of", `#${job.issue}`);
    this.#held.delete(job.run);
    this.wake();
  }

  /** Its commits, one after another, each pushed as it is made. */
  async #commit(saved: Saved, held: Held) {
    const { github, watch, name, world } = this.#parts;
    const { job } = saved;
    while (saved.done < saved.commits && !held.cancelled && !held.lost && this.process.alive) {
      await this.process.clock.sleep(between(this.#chance, 2_000, 15_000), this.#signal);
      while (this.process.alive && !held.lost && !this.#isOurs(held))
        await this.process.clock.sleep(1_000, this.#signal);
      if (!this.process.alive || held.lost || held.cancelled) return;
      await watch.pushes(name, job);
      const sha = github.nextSha();
      github.branches.set(job.branch, sha);
      saved.head = sha;
      saved.done += 1;
      world.say(name, "pushes commit", saved.done, "of run", job.number, "of", `#${job.issue}`);
      await this.#tell(saved, held, [
        { type: "commit", sha, subject: "a commit" },
        { type: "pushed", sha },
      ]);
    }
  }

  #isOurs({ goodUntil }: Held): boolean {
    return this.#parts.world.now < goodUntil - stopBeforeMs;
  }

  async #keepLease({ job, end }: Saved, held: Held) {
    while (this.process.alive && this.#held.get(job.run) === held && !held.lost && !end) {
      await this.process.clock.sleep(renewEveryMs, this.#signal);
      if (this.#held.get(job.run) !== held || held.lost) return;
      const asked = this.#parts.world.now;
      try {
        const request = { attempt: job.attempt, received: 0 };
        const answer = await this.#post(`runs/${job.run}/renew`, request);
        if (answer.status === 200) {
          const { leaseMs, cancel } = answer.body as { leaseMs: number; cancel: boolean };
          held.goodUntil = asked + leaseMs;
          held.hasStarted ||= leaseMs > job.leaseMs;
          held.cancelled ||= cancel;
        } else if (answer.status < 500) held.lost = true;
      } catch {
        // Its lease may last longer than the network is away.
      }
      // One that has started works on, and holds its pushes.
      if (!this.#isOurs(held) && !held.hasStarted) held.lost = true;
    }
  }

  async #tell(saved: Saved, held: Held, facts: Fact[]) {
    for (const fact of facts) {
      const numbered = { ...fact, seq: saved.events.length + 1, at: this.#parts.world.now };
      saved.events.push(numbered as Event);
    }
    await this.#sendEvents(saved, held);
  }

  async #sendEvents({ job, events }: Saved, held: Held) {
    const request = { attempt: job.attempt, events: [...events] };
    const answer = await this.#insist(`runs/${job.run}/events`, request, held);
    if (answer && answer.status !== 200) held.lost = true;
  }

  /** Asks until it is answered; null: there is nobody to ask for any more. */
  async #insist(path: string, body: object, held: Held) {
    while (this.process.alive && !held.lost) {
      try {
        const answer = await this.#post(path, body);
        if (answer.status < 500) return answer;
      } catch {
        // Asked again after the pause.
      }
      await this.process.clock.sleep(between(this.#chance, 200, 3_000), this.#signal);
    }
    return null;
  }
}

const begun: Fact[] = [
  {
    type: "started",
    agent: "hello",
    image: "trimo/base:bookworm",
    cpus: 1,
    memoryBytes: 1_000,
    minutes: 5,
    acceptsMessages: false,
  },
  { type: "stage", stage: "agent" },
];

function endOf({ job, events, head, done }: Saved, cancelled: boolean): Settle {
  return {
    attempt: job.attempt,
    lastSeq: events.length,
    outcome: cancelled ? "cancelled" : "succeeded",
    failure: null,
    head,
    changed: done > 0,
    quota: null,
  };
}
