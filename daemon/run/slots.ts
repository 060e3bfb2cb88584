import { randomBytes } from "node:crypto";
import { crashAt } from "../../app/protocol/crash.ts";
import type { Hello, HelloAnswer } from "../../app/protocol/hello.ts";
import type { Job } from "../../app/protocol/job.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import type { StreamMessage } from "../../app/protocol/stream.ts";
import { protocolVersion } from "../../app/protocol/version.ts";
import type { Disk } from "../disk.ts";
import { ServerError } from "../server/client.ts";
import type { Listener } from "../server/connection.ts";
import type { Parts } from "./attempt.ts";
import { removeContainerAndVolume, removeRunFolder } from "./clean-up.ts";
import { type Mode, runJob } from "./job.ts";
import { isDiskFull, isDockerAway } from "./refusal.ts";
import { hasGate, type RunRecord, readRecords, runFolder, writeRecord } from "./run-record.ts";
import { type Controls, renewNow } from "./signals.ts";

/** A free slot asks by itself this often, should a wake-up be lost. */
const askEveryMs = 20_000;
const claimRetry = { baseMs: 500, mostMs: 15_000 };
/** A job that fails inside the daemon is gone on with this often: minutes, as for Docker restarting. */
const triesMax = 30;
const jobRetry = { baseMs: 500, mostMs: 15_000 };

const cancelledMax = 1_000;

/** `hasContainer`: it takes a slot; else it only waits for GitHub to take its commits. */
type Held = { job: Job; controls: Controls; hasContainer: boolean; done: Promise<void> };

/** Makes names that nobody else has: a claim's key, or this start of the daemon. */
const newKey = (): string => randomBytes(12).toString("base64url");

/** Room for containers: claims runs while there is some, and knows what is under way. */
export class Slots implements Listener {
  readonly #parts: Parts;
  readonly #version: string;
  readonly #held = new Map<string, Held>();
  /** Cancels of attempts that are not here yet, or not any more. */
  readonly #cancelled = new Set<string>();
  readonly #leave = new AbortController();
  readonly #claiming: RunningState;
  /** Woken when a slot is free again. */
  readonly #freed: RunningState;
  #claim: Promise<unknown> = Promise.resolve();
  /** This start of the daemon, as the app knows it apart from the one before. */
  readonly #startedAs = newKey();
  readonly #on: { connected(name: string): void; orphan(): void };

  /**
   * `on.connected`: the app has answered a hello. `on.orphan`: a run ended without being settled, and
   * only the app can say what to do with it.
   */
  constructor(
    parts: Parts,
    version: string,
    on: { connected(name: string): void; orphan(): void },
  ) {
    this.#parts = parts;
    this.#version = version;
    this.#on = on;
    this.#claiming = new RunningState(parts.clock);
    this.#freed = new RunningState(parts.clock);
  }

  /** How many runs take a slot. */
  get running(): number {
    return [...this.#held.values()].filter((held) => held.hasContainer).length;
  }

  /** Claims until drained; asks when woken, when a slot is free again, and now and then. */
  async claimLoop() {
    const state = this.#claiming;
    let key = newKey();
    while (state.running) {
      const seen = state.wakes;
      if (this.running >= this.#parts.config.slots) {
        await state.sleepUnlessWoken(seen);
        continue;
      }
      try {
        const claim = this.#claimOnce(key);
        // A drain waits only for its end; the loop handles its failure.
        this.#claim = claim.catch(() => {});
        const found = await claim;
        key = newKey();
        state.succeeded();
        if (!found) await state.sleepUnlessWoken(seen, askEveryMs);
      } catch (error) {
        if (!state.running) return;
        if (!(error instanceof ServerError)) throw error;
        // The same key again: a claim whose answer was lost is answered with the same job.
        if (state.failures === 0) this.#parts.log.warn({ why: error.message }, "cannot claim");
        await state.backOff(claimRetry);
      }
    }
  }

  /** Whether there was something to do. A drain lets it come to its end: what was granted is done. */
  async #claimOnce(key: string): Promise<boolean> {
    const { job } = await this.#parts.server.claim(key, this.#leave.signal);
    if (job) crashAt("daemon: a run is claimed");
    if (job) this.#start(job, null, "run");
    return job !== null;
  }

  /** Takes what the stream says: a wake-up, a cancel, a drain, or that a message waits. */
  heard(message: StreamMessage) {
    if (message.type === "wake") return this.#claiming.wake();
    if (message.type === "cancel") return this.#cancel(message.run, message.attempt);
    if (message.type === "drain") return this.#claiming.stop();
    if (message.type === "hello") return;
    const held = this.#held.get(`${message.run}-${message.attempt}`);
    if (held) renewNow(held.controls);
  }

  /** Also one whose claim is just being answered. */
  #cancel(run: string, attempt: number) {
    const key = `${run}-${attempt}`;
    const held = this.#held.get(key);
    if (held) return held.controls.cancel.abort();
    if (this.#cancelled.size >= cancelledMax) this.#cancelled.clear();
    this.#cancelled.add(key);
  }

  /**
   * No new runs; resolves when the last one under way has ended. What only waits for GitHub to take its commits
   * is left to the next start.
   */
  async drain() {
    this.#claiming.stop();
    await this.#claim;
    for (let seen = this.#freed.wakes; this.running > 0; seen = this.#freed.wakes)
      await this.#freed.sleepUnlessWoken(seen);
    this.#leave.abort();
    await Promise.all([...this.#held.values()].map(({ done }) => done));
  }

  /** Leaves containers running for the next daemon to find. */
  async leave() {
    this.#claiming.stop();
    this.#leave.abort();
    await this.drain();
  }

  /** Who we are and what we still have: under way here, or left by an earlier daemon. */
  hello(): Hello {
    const { config, disk } = this.#parts;
    const onDisk = readRecords(disk, config.data).flatMap(({ record }) =>
      record ? [record.job] : [],
    );
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

  hasRuns(): boolean {
    return this.#held.size > 0;
  }

  /** Does what the app wants done with each run we have. What cannot be done now is asked for again. */
  async connected({ verdicts, name }: HelloAnswer) {
    const { disk, config, log } = this.#parts;
    const records = new Map<string, { folder: string; record: RunRecord }>();
    for (const { folder, record } of readRecords(disk, config.data))
      if (record) records.set(`${record.job.run}-${record.job.attempt}`, { folder, record });
    for (const { run, attempt, verdict } of verdicts) {
      const key = `${run}-${attempt}`;
      const held = this.#held.get(key);
      if (held) {
        if (verdict === "cancel") held.controls.cancel.abort();
        continue;
      }
      const known = records.get(key);
      if (!known) continue;
      log.info({ run, attempt, verdict }, "a run of an earlier start");
      const { folder, record } = known;
      // Nothing has come into the gate yet, so there is nothing to keep.
      if (verdict === "kill" && !hasGate(disk, folder)) {
        await this.#forget(folder, record);
        continue;
      }
      const mode = verdict === "rescue" ? "rescue" : verdict === "kill" ? "keep" : "run";
      const started = this.#start(record.job, record, mode);
      if (verdict !== "continue") started.controls.cancel.abort();
    }
    this.#on.connected(name);
  }

  /** Removes what is left of a run without work. */
  async #forget(folder: string, { job, containerId }: RunRecord) {
    try {
      await removeContainerAndVolume(this.#parts.engine, job, containerId);
      await removeRunFolder(this.#parts, folder, job);
    } catch (error) {
      // The engine is away: its record stays, and the app is asked about it again.
      this.#parts.log.warn({ err: error, run: job.run }, "a run's leftovers could not be removed");
      this.#on.orphan();
    }
  }

  #start(job: Job, before: RunRecord | null, mode: Mode): Held {
    const key = `${job.run}-${job.attempt}`;
    const cancel = new AbortController();
    if (this.#cancelled.delete(key)) cancel.abort();
    const freed = () => {
      this.#freed.wake();
      this.#claiming.wake();
    };
    const onContainerGone = () => {
      const held = this.#held.get(key);
      if (held) held.hasContainer = false;
      freed();
    };
    const controls = {
      cancel,
      leave: this.#leave.signal,
      renewals: new Set<() => void>(),
      onContainerGone,
    };
    const done = this.#keepAt(job, controls, before, mode).finally(() => {
      this.#held.delete(key);
      freed();
      const { disk, config } = this.#parts;
      const left = readRecords(disk, config.data).some(
        ({ record }) => record?.job.run === job.run && record.job.attempt === job.attempt,
      );
      if (left && !this.#leave.signal.aborted) this.#on.orphan();
    });
    const held = { job, controls, hasContainer: true, done };
    this.#held.set(key, held);
    return held;
  }

  /** An error of the daemon's own is not the run's end: from its record it goes on. */
  async #keepAt(job: Job, controls: Controls, before: RunRecord | null, mode: Mode) {
    const { log, clock, config, disk } = this.#parts;
    const state = new RunningState(clock, controls.leave);
    let record = before;
    let tries = 1;
    while (tries <= triesMax) {
      try {
        return await runJob(this.#parts, job, controls, record, mode);
      } catch (error) {
        log.error({ err: error, run: job.run, tries }, "a run failed inside the daemon");
        // An engine that is away and a full disk say nothing about the run: they are waited for.
        if (!isDockerAway(error) && !isDiskFull(error)) tries += 1;
        await state.backOff(jobRetry);
        if (!state.running) return;
        const folder = runFolder(config.data, job.run, job.attempt);
        record =
          readRecords(disk, config.data).find((row) => row.folder === folder)?.record ?? null;
        if (tries === triesMax && record) record = givenUp(disk, { folder, record }, error);
      }
    }
  }
}

/** Nothing helped: the run ends, and all that may hold its work is kept for a person to look at. */
function givenUp(
  disk: Disk,
  { folder, record }: { folder: string; record: RunRecord },
  error: unknown,
): RunRecord {
  const detail =
    `What the run left is kept on its machine: see \`trimo kept\`. ${String(error)}`.slice(
      0,
      1_000,
    );
  const end = {
    attempt: record.job.attempt,
    lastSeq: 0,
    outcome: "failed" as const,
    failure: { code: "daemon_failed" as const, detail },
    head: null,
    changed: false,
    quota: null,
  };
  const given = { ...record, keep: true, keepVolume: record.end === null, end: record.end ?? end };
  writeRecord(disk, folder, given);
  return given;
}
