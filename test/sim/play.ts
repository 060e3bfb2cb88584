import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { leases, pipelines } from "../../app/state/schema.ts";
import { type AppProcess, startApp } from "./app.ts";
import { createRealMachine } from "./daemon/machine.ts";
import { Work } from "./daemon/work.ts";
import { Faults } from "./faults.ts";
import { GitHubState } from "./github-state.ts";
import { isQuiet, judge, type RunTimes, type Said } from "./invariants.ts";
import { createMachine, type Machine } from "./machine.ts";
import { type Item, machineNames, type Story } from "./story.ts";
import { epoch, World } from "./world.ts";

/** How long the world is left alone at most after the story, and how often it is looked at, in milliseconds. */
const quietMsMax = 4 * 3_600_000;
const lookMs = 15_000;

/** What came of a story. */
type Played = {
  /** Sentences; empty: all held. */
  violations: string[];
  runs: number;
  steps: number;
  /** Of the whole trace: the same story gives the same one. */
  digest: string;
  trace: string[];
};

/** Plays a story with the app's real code; touches nothing but a folder of its own. */
export async function play(story: Story): Promise<Played> {
  const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
  const folder = mkdtempSync(join(base, "trimo-sim-"));
  try {
    return await new Play(story, join(folder, "app.db")).play();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

type Attempt = { run: string; attempt: number };

class Play {
  readonly #story: Story;
  readonly #path: string;
  readonly #world: World;
  readonly #faults = new Faults();
  readonly #github: GitHubState;
  readonly #work: Work;
  readonly #machines: Machine[] = [];
  readonly #violations = new Set<string>();
  /** The machine at work on a run, by the run's id. */
  readonly #working = new Map<string, string>();
  readonly #said: Said[] = [];
  readonly #times = new Map<string, RunTimes>();
  /** When the app's clock was moved, if it was. */
  #clockMovedAt = Number.POSITIVE_INFINITY;
  #app: AppProcess | null = null;
  #starts = 0;

  constructor(story: Story, path: string) {
    this.#story = story;
    this.#path = path;
    this.#world = new World(story.seed);
    this.#github = new GitHubState(this.#world, this.#faults);
    this.#work = new Work(this.#world, this.#github);
    this.#github.receiver = async (delivery) => {
      const app = this.#app;
      return app ? await app.receive(delivery) : 502;
    };
  }

  async play(): Promise<Played> {
    const world = this.#world;
    await this.#startApp();
    for (const name of machineNames) await this.#addMachine(name);
    for (const item of this.#story.items) world.at(item.at, () => this.#do(item));
    world.at(this.#story.calmAt, () => this.#calm());
    await world.playUntil(epoch + this.#story.calmAt + 1);
    const app = await this.#untilQuiet();
    const runs = await judge({
      db: app.db.read,
      github: this.#github,
      said: this.#said,
      times: this.#times,
      worldTime: (appTime, notBefore) => this.#worldTime(appTime, notBefore),
      violate: (what) => this.#violations.add(what),
    });
    this.#judgeMachines();
    app.kill();
    const digest = createHash("sha256").update(world.trace.join("\n")).digest("hex");
    const violations = [...this.#violations];
    return { violations, runs, steps: world.steps, digest, trace: world.trace };
  }

  /** Nothing of ended runs is left, and nothing that an agent made is lost. */
  #judgeMachines() {
    const machines = this.#machines;
    for (const { name, leftovers } of machines)
      for (const what of leftovers()) this.#violations.add(`${name} still has ${what}`);
    const branches = [...this.#github.branches.values()];
    const safe = new Set([
      ...branches.flatMap((sha) => this.#work.editsOf(sha)),
      ...machines.flatMap((machine) => machine.edits()),
    ]);
    for (const [edit, run] of this.#work.edits)
      if (!safe.has(edit)) this.#violations.add(`${edit} of run ${run} is lost`);
  }

  async #startApp() {
    this.#starts += 1;
    this.#app = await startApp(
      {
        world: this.#world,
        faults: this.#faults,
        github: this.#github,
        path: this.#path,
        onOffer: (name) => this.#machines.find((one) => one.name === name)?.wake(),
        onCancel: (name, run) => this.#machines.find((one) => one.name === name)?.cancel(run),
        violate: (what) => this.#violations.add(what),
      },
      this.#starts,
    );
  }

  async #addMachine(name: string) {
    const token = await this.#app?.enroll(name);
    if (typeof token !== "string") throw new Error(`machine ${name} was not enrolled`);
    const reach = async (path: string, from: string, body: object) => {
      if (!this.#app) throw new Error("unreachable");
      return await this.#app.reach(path, from, body);
    };
    const stream = async (from: string) => {
      if (!this.#app) throw new Error("unreachable");
      return await this.#app.stream(from);
    };
    const watch = {
      begins: (machine: string, { run }: { run: string }) => this.#begins(machine, run),
      ends: (machine: string, { run }: { run: string }) => {
        if (this.#working.get(run) === machine) this.#working.delete(run);
        const times = this.#times.get(run);
        if (times) times.endedAt = this.#world.now;
      },
      pushes: (machine: string, of: Attempt) => this.#pushes(machine, of),
    };
    const [world, faults, github] = [this.#world, this.#faults, this.#github];
    const parts = { world, faults, github, reach, stream, watch };
    const violate = (what: string) => this.#violations.add(what);
    const machine = this.#story.realDaemons
      ? createRealMachine({ ...parts, work: this.#work, violate }, name, token)
      : createMachine(parts, name, token);
    this.#machines.push(machine);
    machine.start();
  }

  #begins(machine: string, run: string) {
    const other = this.#working.get(run);
    if (other && other !== machine) this.#violations.add(`two machines are at work on run ${run}`);
    this.#working.set(run, machine);
    if (!this.#times.has(run))
      this.#times.set(run, { beganAt: this.#world.now, endedAt: Number.POSITIVE_INFINITY });
  }

  #worldTime(appTime: number, notBefore: number): number {
    const moved = appTime - this.#faults.clockOff;
    const isUnmoved = appTime >= notBefore && appTime < this.#clockMovedAt;
    return isUnmoved ? appTime : moved;
  }

  /** Nobody pushes whose attempt another has replaced. */
  async #pushes(machine: string, { run, attempt }: Attempt) {
    if (!this.#app) return;
    const all = await this.#app.db.read.select().from(leases);
    const held = all.find((lease) => lease.runId === run);
    if (held && held.attempt !== attempt)
      this.#violations.add(`${machine} pushes for a replaced attempt at run ${run}`);
  }

  #do(item: Item) {
    if ("do" in item) return void this.#person(item);
    const faults = this.#faults;
    switch (item.fault) {
      case "github":
        return void faults.github.push(item);
      case "delivery":
        return void faults.delivery.push(item);
      case "outage":
        this.#world.say("GitHub is away for", item.ms / 1_000, "s");
        faults.awayUntil = this.#world.now + item.ms;
        return;
      case "network": {
        const queue = faults.network.get(item.machine) ?? [];
        faults.network.set(item.machine, [...queue, item]);
        return;
      }
      case "cut":
        this.#world.say(item.machine, "has no network for", item.ms / 1_000, "s");
        return void faults.cutUntil.set(item.machine, this.#world.now + item.ms);
      case "clock":
        this.#world.say("the app's clock is off by", item.ms / 1_000, "s");
        faults.clockOff = item.ms;
        this.#clockMovedAt = this.#world.now;
        return;
      case "kill":
        return this.#kill(item.who, item.ms);
      default:
        return this.#machines.find(({ name }) => name === item.machine)?.strike(item);
    }
  }

  #kill(who: string, ms: number) {
    const machine = this.#machines.find((one) => one.name === who);
    if (machine) {
      machine.kill();
      this.#world.at(ms, () => machine.start());
      return;
    }
    this.#app?.kill();
    this.#app = null;
    this.#world.at(ms, () => void this.#startAgain());
  }

  async #startAgain() {
    if (!this.#app) await this.#startApp();
  }

  async #person(item: Extract<Item, { do: string }>) {
    const github = this.#github;
    const { issue } = item;
    const at = this.#world.now;
    if (item.do === "comment") {
      const { guid } = github.comment(issue, item.body);
      this.#said.push({ issue, words: item.body, at, key: guid });
    } else if (item.do === "label" || item.do === "unlabel") {
      github.label(issue, item.label, item.do === "label");
      this.#said.push({ issue, words: `${item.do} ${item.label}`, at, key: null });
    } else {
      const rows = (await this.#app?.db.read.select().from(pipelines)) ?? [];
      const pipeline = rows.filter((row) => row.issue === issue).at(-1);
      if (!pipeline) return;
      if (item.do === "suite") {
        if (github.branches.has(pipeline.branch)) github.suiteFails(pipeline.branch);
        return;
      }
      const pull = github.pulls.find((one) => one.head === pipeline.branch);
      if (!pull) return;
      if (item.do === "close") github.closePull(pull);
      else github.reopenPull(pull);
    }
  }

  #calm() {
    this.#world.say("all is well from here on");
    this.#faults.end();
    this.#github.calm = true;
    for (const machine of this.#machines) {
      machine.calm();
      machine.start();
    }
    void this.#startAgain();
  }

  /** Goes on until nothing is left to do but to look; gives the app. */
  async #untilQuiet(): Promise<AppProcess> {
    const world = this.#world;
    const endAt = world.now + quietMsMax;
    for (;;) {
      await world.playUntil(world.now + lookMs);
      const app = this.#app;
      if (!app) throw new Error("the app did not start again");
      const idle = this.#machines.every((machine) => machine.isIdle());
      if (world.now >= endAt || (idle && (await isQuiet(app.db.read, this.#github)))) return app;
    }
  }
}
