import type { Clock } from "../../app/protocol/clock.ts";
import { crashAt } from "../../app/protocol/crash.ts";
import type { Fact } from "../../app/protocol/event.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import { GitError, isTokenRefused } from "./git.ts";
import { Refusals } from "./refusals.ts";
import type { Gate, PushResult } from "./repositories.ts";

/** How long the end of a run waits for GitHub to take its commits, and once it was cancelled. */
const lastPushMsMax = 24 * 3_600_000;
const cancelledPushMsMax = 10 * 60_000;
const retry = { baseMs: 500, mostMs: 60_000 };
/** A refusal is believed at the run's end only. */
const believing = { least: 3, overMs: 90_000 };
const refusedPauseMs = 45_000;
/** GitHub may show a commit a moment after it took it. */
const looksMax = 5;
const lookPauseMs = 3_000;

/** Whether GitHub shows the run's commits; `kept`: the branch beside that has them instead, or null. */
export type PushVerdict =
  | { ok: true; head: string | null }
  | { ok: false; why: "moved" | "refused" | "unreachable"; detail: string; kept: string | null };

/** What becomes of a run whose last commits GitHub does not take for long. */
export type LongWait = {
  /** Since when the commits are ready, in milliseconds since 1970; perhaps before the daemon's start. */
  since: number;
  /** Aborted: somebody cancelled the run, and it waits no longer than minutes. */
  cancel: AbortSignal;
  /** Told once, after the first two tries. */
  onWaiting(): void;
  /** From when on, since then, each try tells `onLong`: what the run holds besides its commits can go. */
  longMs: number;
  onLong(): Promise<void>;
};

type PusherParts = {
  gate: Gate;
  /** The newest commit told of, the newest on GitHub (null: the branch is not there), the run's first. */
  at: { told: string; onGitHub: string | null; start: string };
  token: (refused?: string | null) => Promise<string>;
  /** Whether nobody else can have the attempt: else nothing is pushed, and it is waited for. */
  isOurs: () => boolean;
  clock: Clock;
  tell: (fact: Fact) => void;
  signal: AbortSignal;
};

/**
 * Takes each state of the gate's branch on to GitHub, one push at a time, the newest first. A branch
 * that somebody moved is never overwritten: the run's commits go to a branch beside it.
 */
export class Pusher {
  #gate: Gate;
  #token: PusherParts["token"];
  /** The token that GitHub refused last; null: it takes them. */
  #refused: string | null = null;
  #isOurs: () => boolean;
  #clock: Clock;
  #tell: (fact: Fact) => void;
  /** The newest commit told of, and the newest on GitHub. */
  #told: string;
  #start: string;
  #onGitHub: string | null;
  #stopped: Exclude<PushResult, "pushed"> | null = null;
  #working: Promise<void> = Promise.resolve();
  #signal: AbortSignal;

  constructor({ gate, at, token, isOurs, clock, tell, signal }: PusherParts) {
    this.#gate = gate;
    this.#told = at.told;
    this.#start = at.start;
    this.#onGitHub = at.onGitHub;
    this.#token = token;
    this.#isOurs = isOurs;
    this.#clock = clock;
    this.#tell = tell;
    this.#signal = signal;
  }

  /** Whether the run has added a commit, as far as its pushes have been looked at: all, after `finish`. */
  get changed(): boolean {
    return this.#told !== this.#start;
  }

  /** The gate has (perhaps) something new. */
  nudge() {
    this.#working = this.#working
      .then(() => this.#step())
      .catch((error) => {
        this.#stopped = { unreachable: String(error) };
      });
  }

  async #step() {
    const head = await this.#gate.head();
    if (head !== this.#told) {
      for (const commit of await this.#gate.commitsBetween(this.#told, head))
        this.#tell({ type: "commit", ...commit });
      this.#told = head;
      crashAt("daemon: a commit is told");
    }
    if (this.#stopped === "moved") return;
    if (head === this.#onGitHub || this.#signal.aborted) return;
    // A branch that is not there yet is made by the first commit, not by a run without one.
    if (this.#onGitHub === null && head === this.#start) return;
    const result = await this.#push(head);
    if (result !== "pushed") {
      this.#stopped = result;
      return;
    }
    crashAt("daemon: a push is done");
    this.#stopped = null;
    this.#onGitHub = head;
    this.#tell({ type: "pushed", sha: head });
    crashAt("daemon: a push is told");
  }

  async #push(sha: string, branch?: string): Promise<PushResult> {
    if (!this.#isOurs()) return { unreachable: "The app does not answer: pushes wait for it." };
    try {
      return await this.#withToken(async (token) => {
        const result = await this.#gate.push(sha, token, { branch, signal: this.#signal });
        if (typeof result !== "string" && isTokenRefused(Object.values(result)[0] ?? ""))
          this.#refused = token;
        return result;
      });
    } catch (error) {
      return { unreachable: error instanceof Error ? error.message : String(error) };
    }
  }

  /** With another token where GitHub refused the last one. */
  async #withToken<T>(work: (token: string) => Promise<T>): Promise<T> {
    const token = await this.#token(this.#refused);
    this.#refused = null;
    try {
      return await work(token);
    } catch (error) {
      if (error instanceof GitError && isTokenRefused(error.message)) this.#refused = token;
      throw error;
    }
  }

  /** Everything on GitHub and seen there, or why not; `beside` is the branch that keeps the work then. */
  async finish(beside: string, wait: LongWait): Promise<PushVerdict> {
    const state = new RunningState(this.#clock, this.#signal);
    // A cancel is heard at once, and then ends no more than the patience.
    const patient = new RunningState(this.#clock, AbortSignal.any([this.#signal, wait.cancel]));
    const refusals = new Refusals(believing);
    for (let tries = 1; ; tries++) {
      this.nudge();
      await this.#working;
      if (state.running && this.#isRefused && !refusals.believed(this.#clock.now())) {
        await state.sleep(refusedPauseMs);
        continue;
      }
      const verdict = await this.#verdict(beside);
      const waited = this.#clock.now() - wait.since;
      const most = patient.running ? lastPushMsMax : cancelledPushMsMax;
      // An app that is silent is waited for: it may have given the run to somebody else.
      const inTime = waited < most || !this.#isOurs();
      const again = !verdict.ok && verdict.why === "unreachable" && inTime;
      if (!again || !state.running) return verdict;
      // Not for a single hiccup.
      if (tries === 2) wait.onWaiting();
      if (waited >= wait.longMs) await wait.onLong();
      await (patient.running ? patient : state).backOff(retry);
    }
  }

  get #isRefused(): boolean {
    return this.#stopped !== null && this.#stopped !== "moved" && "refused" in this.#stopped;
  }

  async #verdict(beside: string): Promise<PushVerdict> {
    const stopped = this.#stopped;
    if (stopped === null && !this.changed) return { ok: true, head: this.#onGitHub };
    if (stopped === null) return await this.#seen();
    if (stopped !== "moved" && "unreachable" in stopped)
      return { ok: false, why: "unreachable", detail: stopped.unreachable, kept: null };
    const kept = (await this.#push(this.#told, beside)) === "pushed" ? beside : null;
    if (kept) crashAt("daemon: the branch beside is pushed");
    if (stopped === "moved") return { ok: false, why: "moved", detail: "", kept };
    return { ok: false, why: "refused", detail: stopped.refused, kept };
  }

  /** Believed only when GitHub itself shows the commit, or one on top of it. */
  async #seen(): Promise<PushVerdict> {
    try {
      for (let looks = 1; ; looks++) {
        const look = (token: string) => this.#gate.remoteHead(token);
        const head = await this.#withToken(look);
        if (head === this.#told) return { ok: true, head };
        // Somebody has pushed on top meanwhile.
        const contains = (token: string) => this.#gate.remoteContains(this.#told, token);
        if (head && (await this.#withToken(contains))) return { ok: true, head: this.#told };
        if (looks >= looksMax || this.#signal.aborted) {
          const detail = `GitHub has ${head ?? "no such branch"}`;
          return { ok: false, why: "moved", detail, kept: null };
        }
        await this.#clock.sleep(lookPauseMs, this.#signal);
      }
    } catch (error) {
      return { ok: false, why: "unreachable", detail: String(error), kept: null };
    }
  }
}
