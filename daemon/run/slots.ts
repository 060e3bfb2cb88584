import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { backoffMs, waitAmong } from "../../app/protocol/clock.ts";
import { protocolVersion } from "../../app/protocol/version.ts";
import type { Hello, HelloAnswer, Job } from "../../app/protocol/wire.ts";
import { ServerError } from "../server/client.ts";
import { forget, type Mode, type Parts, removeBox, runJob, type Wishes } from "./job.ts";
import { type Record, readRecords, runFolder, writeRecord } from "./run-record.ts";

/** A free slot asks by itself this often, should a wake-up be lost. */
const askEveryMs = 20_000;
/** A job that fails inside the daemon is gone on with this often: minutes, as for Docker restarting. */
const triesMax = 30;

const cancelledMax = 1_000;

type Held = {
  job: Job;
  cancel: AbortController;
  /** Woken when somebody has said something to the run. */
  pokes: (() => void)[];
  done: Promise<void>;
};

/** Room for containers: claims runs while there is some, and knows what is under way. */
export class Slots {
  #parts: Parts;
  #held = new Map<string, Held>();
  /** Cancels of attempts that are not here yet, or not any more. */
  #cancelled = new Set<string>();
  #draining = new AbortController();
  #leave = new AbortController();
  #claiming: Promise<unknown> = Promise.resolve();
  #wakes: (() => void)[] = [];
  #version: string;
  /** This start of the daemon, as the app knows it apart from the one before. */
  #startedAs = newKey();
  /** Set when a run ended without being settled: only the app can say what to do with it. */
  #onOrphan: () => void = () => {};

  constructor(parts: Parts, version: string) {
    this.#parts = parts;
    this.#version = version;
  }

  onOrphan(handler: () => void) {
    this.#onOrphan = handler;
  }

  get running(): number {
    return this.#held.size;
  }
  holds(run: string): boolean {
    return [...this.#held.values()].some((held) => held.job.run === run);
  }

  /** Claims until drained; asks when woken, when a slot is free again, and now and then. */
  async claimLoop(signal: AbortSignal) {
    const { clock, config, log } = this.#parts;
    const stop = AbortSignal.any([signal, this.#draining.signal]);
    let key = newKey();
    for (let failures = 0; !stop.aborted; ) {
      if (this.#held.size >= config.slots) {
        await waitAmong(this.#wakes, stop);
        continue;
      }
      const woken = waitAmong(this.#wakes, stop);
      try {
        const claim = this.#claim(key, AbortSignal.any([signal, this.#leave.signal]));
        this.#claiming = claim.catch(() => {});
        const found = await claim;
        key = newKey();
        failures = 0;
        if (found) continue;
        const quiet = new AbortController();
        await Promise.race([woken, clock.sleep(askEveryMs, AbortSignal.any([stop, quiet.signal]))]);
        quiet.abort();
      } catch (error) {
        if (stop.aborted) return;
        if (!(error instanceof ServerError)) throw error;
        failures += 1;
        // The same key again: a claim whose answer was lost is answered with the same job.
        if (failures === 1) log.warn({ why: error.message }, "cannot claim");
        await clock.sleep(backoffMs(failures, 500, 15_000, Math.random()), stop);
      }
    }
  }

  /** Whether there was something to do. A drain lets it come to its end: what was granted is done. */
  async #claim(key: string, signal: AbortSignal): Promise<boolean> {
    const { job } = await this.#parts.server.claim(key, signal);
    if (job) this.#start(job, null, "run");
    return job !== null;
  }

  wake() {
    for (const wake of this.#wakes.splice(0)) wake();
  }

  /** Also one whose claim is just being answered. */
  cancel(run: string, attempt: number) {
    const key = `${run}-${attempt}`;
    const held = this.#held.get(key);
    if (held) return held.cancel.abort();
    if (this.#cancelled.size >= cancelledMax) this.#cancelled.clear();
    this.#cancelled.add(key);
  }

  /** Somebody has said something to a run: its renewal brings it. */
  tell(run: string, attempt: number) {
    for (const poke of this.#held.get(`${run}-${attempt}`)?.pokes.splice(0) ?? []) poke();
  }

  /** No new runs; resolves when the last one under way has ended. */
  async drain() {
    this.#draining.abort();
    await this.#claiming;
    while (this.#held.size > 0)
      await Promise.all([...this.#held.values()].map((held) => held.done));
  }

  /** Leaves containers running for the next daemon to find. */
  async leave() {
    this.#draining.abort();
    this.#leave.abort();
    await this.drain();
  }

  /** Who we are and what we still have: under way here, or left by an earlier daemon. */
  hello(): Hello {
    const { config } = this.#parts;
    const onDisk = readRecords(config.data).flatMap(({ record }) => (record ? [record.job] : []));
    const underWay = [...this.#held.values()].map((held) => held.job);
    const all = new Map([...onDisk, ...underWay].map((job) => [`${job.run}-${job.attempt}`, job]));
    return {
      protocol: protocolVersion,
      version: this.#version,
      slots: config.slots,
      repositories: config.repositories,
      agents: Object.keys(config.agents),
      start: this.#startedAs,
      held: [...all.values()].map(({ run, attempt }) => ({ run, attempt })),
    };
  }

  /** What the app wants done with each run we have. */
  async obey(verdicts: HelloAnswer["verdicts"]) {
    const { docker, config, log } = this.#parts;
    const records = new Map<string, { folder: string; record: Record }>();
    for (const { folder, record } of readRecords(config.data))
      if (record) records.set(`${record.job.run}-${record.job.attempt}`, { folder, record });
    for (const { run, attempt, verdict } of verdicts) {
      const key = `${run}-${attempt}`;
      const held = this.#held.get(key);
      if (held) {
        if (verdict === "cancel") held.cancel.abort();
        continue;
      }
      const known = records.get(key);
      if (!known) continue;
      log.info({ run, attempt, verdict }, "a run of an earlier start");
      // Nothing has come into the gate yet, so there is nothing to keep.
      if (verdict === "kill" && !hasGate(known.folder)) {
        await removeBox(docker, known.record.job, known.record.containerId);
        await forget(config.data, known.folder, known.record.job);
        continue;
      }
      const mode = verdict === "rescue" ? "rescue" : verdict === "kill" ? "keep" : "run";
      const started = this.#start(known.record.job, known.record, mode);
      if (verdict !== "continue") started.cancel.abort();
    }
  }

  #start(job: Job, before: Record | null, mode: Mode): Held {
    const key = `${job.run}-${job.attempt}`;
    const cancel = new AbortController();
    if (this.#cancelled.delete(key)) cancel.abort();
    const pokes: (() => void)[] = [];
    const wishes = { cancel, leave: this.#leave.signal, pokes };
    const done = this.#keepAt(job, wishes, before, mode).finally(() => {
      this.#held.delete(key);
      this.wake();
      const left = readRecords(this.#parts.config.data).some(
        ({ record }) => record?.job.run === job.run && record.job.attempt === job.attempt,
      );
      if (left && !this.#leave.signal.aborted) this.#onOrphan();
    });
    const held = { job, cancel, pokes, done };
    this.#held.set(key, held);
    return held;
  }

  /** An error of the daemon's own is not the run's end: from its record it goes on. */
  async #keepAt(job: Job, wishes: Wishes, before: Record | null, mode: Mode) {
    const { log, clock, config } = this.#parts;
    let record = before;
    for (let tries = 1; tries <= triesMax; tries++) {
      try {
        return await runJob(this.#parts, job, wishes, record, mode);
      } catch (error) {
        log.error({ err: error, run: job.run, tries }, "a run failed inside the daemon");
        await clock.sleep(backoffMs(tries, 500, 15_000, Math.random()), wishes.leave);
        if (wishes.leave.aborted) return;
        const folder = runFolder(config.data, job.run, job.attempt);
        record = readRecords(config.data).find((row) => row.folder === folder)?.record ?? null;
        if (tries === triesMax - 1 && record) record = givenUp(record, folder, error);
      }
    }
  }
}

/** Nothing helped: the run ends, and its gate is kept for a person to look at. */
function givenUp(record: Record, folder: string, error: unknown): Record {
  const detail = `The run's commits are kept on the machine. ${String(error)}`.slice(0, 1_000);
  const end = {
    attempt: record.job.attempt,
    lastSeq: 0,
    outcome: "failed" as const,
    failure: { code: "daemon_failed" as const, detail },
    head: null,
    changed: false,
    quota: null,
  };
  const given = { ...record, keep: true, end: record.end ?? end };
  writeRecord(folder, given);
  return given;
}

const hasGate = (folder: string): boolean => existsSync(join(folder, "gate.git", "HEAD"));

const newKey = (): string => randomBytes(12).toString("base64url");
