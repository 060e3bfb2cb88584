import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import { RunningState } from "../../../app/protocol/running-state.ts";
import type { Config } from "../../../daemon/config.ts";
import { fileDisk } from "../../../daemon/disk.ts";
import { DockerError, type Engine } from "../../../daemon/docker/engine.ts";
import type { Attempt, Parts } from "../../../daemon/run/attempt.ts";
import { readKept, recordKept } from "../../../daemon/run/kept.ts";
import { blank } from "../../../daemon/run/outcome.ts";
import { rescue } from "../../../daemon/run/rescue.ts";
import { RecordFile, readRecords, runFolder } from "../../../daemon/run/run-record.ts";
import { sweepLoop } from "../../../daemon/sweep.ts";

// What is removed, and what is not: on a real disk, with an engine that only says what is asked of it.

const day = 24 * 3_600_000;
let data: string;
let now: number;
let removed: string[];
let volumes: { name: string; run: string | null }[];
/** How often the engine does not answer before it does. */
let away: number;
const clock = { ...systemClock, now: () => now };

beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), "trimo-kept-"));
  now = 1_800_000_000_000;
  removed = [];
  volumes = [];
  away = 0;
});
afterEach(() => rmSync(data, { recursive: true, force: true }));

const engine = {
  ownedContainers: async () => [],
  ownedVolumes: async () => volumes,
  removeVolume: async (name: string) => {
    removed.push(name);
  },
  removeContainer: async () => {
    away -= 1;
    if (away >= 0) throw new DockerError("unavailable", "Docker does not answer");
    throw new DockerError("other", "it answers, and will not do this");
  },
} as unknown as Engine;

const parts = () =>
  ({
    config: { data, sessions: { days: 14, disk: "5g" }, github: "https://github.com" } as Config,
    engine,
    disk: fileDisk,
    clock,
    log: pino({ level: "silent" }),
    identity: "me",
    builds: { sweep: async () => {} },
  }) as unknown as Parts;

/** One turn of the sweep. */
async function sweep() {
  const state = new RunningState(clock);
  const sweeping = sweepLoop(parts(), state);
  state.stop();
  await sweeping;
}

const kept = (run: string, commits: string | null, volume: string | null) => ({
  run,
  attempt: 1,
  number: 3,
  repository: "acme/app",
  branch: "trimo/1-x",
  title: "Fix it",
  since: now,
  commits,
  volume,
});

test("a kept volume stays for two weeks, and what is said of it goes with it; kept commits stay", async () => {
  volumes = [
    { name: "trimo-aaaa-1", run: "aaaa" },
    { name: "trimo-bbbb-1", run: "bbbb" },
    { name: "trimo-cccc-1", run: "cccc" },
  ];
  recordKept(parts(), kept("aaaa", null, "trimo-aaaa-1"));
  recordKept(parts(), kept("bbbb", "/data/kept/bbbb-1.bundle", "trimo-bbbb-1"));
  await sweep();
  // Nobody speaks of the third.
  expect(removed).toEqual(["trimo-cccc-1"]);
  now += 14 * day - 1;
  await sweep();
  expect(removed.filter((name) => name !== "trimo-cccc-1")).toEqual([]);
  now += 1;
  await sweep();
  expect(removed.slice(-3)).toEqual(["trimo-aaaa-1", "trimo-bbbb-1", "trimo-cccc-1"]);
  expect(readKept(parts())).toEqual([
    { ...kept("bbbb", "/data/kept/bbbb-1.bundle", null), since: 1_800_000_000_000 },
  ]);
});

test("what is kept is listed oldest first, and a file that is no such thing is left alone", () => {
  now += 5;
  recordKept(parts(), kept("late", null, "v2"));
  now -= 5;
  recordKept(parts(), kept("soon", null, "v1"));
  fileDisk.replace(join(data, "kept/other-1.json"), '{"run":1}');
  expect(readKept(parts()).map(({ run }) => run)).toEqual(["soon", "late"]);
  expect(fileDisk.exists(join(data, "kept/other-1.json"))).toBe(true);
});

test("an engine that is away is no try of a rescue, however often; after three that ran, the volume is kept and its snapshot taken", async () => {
  const job = {
    run: "abcdefghijkm",
    attempt: 1,
    leaseMs: 120_000,
    number: 1,
    pipeline: "abcdefghijkn",
    repository: "acme/app",
    issue: 1,
    title: "Fix it",
    branch: "trimo/1-x",
    base: { branch: "main", sha: "a".repeat(40) },
    agent: null,
    image: null,
    prompt: "Fix it.",
    handoff: "",
    fresh: false,
  };
  const folder = runFolder(data, job.run, job.attempt);
  const record = RecordFile.create(fileDisk, folder, job);
  const told: unknown[] = [];
  const add = (fact: unknown) => told.push(fact);
  const outbox = { add, events: [], saved: async () => {} };
  const attempt = { job, folder, record, outbox } as unknown as Attempt;
  const recovered: unknown[] = [];
  const gate = {
    recoverSnapshot: async (by: unknown) => {
      recovered.push(by);
      return Date.parse("2026-01-02T03:04:05Z");
    },
  };
  const watched = { container: "c", endpoints: { gate }, plan: { agent: "hello" } } as never;
  const dead = { ...blank(), died: true, tail: "last words" };
  const tryOnce = () => rescue(parts(), attempt, dead, watched, {} as never).catch(String);
  away = 7;
  for (let i = 0; i < 7; i++) expect(await tryOnce()).toContain("Docker does not answer");
  expect(record.current.died).toEqual({ outOfMemory: false, tail: "last words", rescues: 0 });
  expect(record.current.keepVolume).toBe(false);
  record.update({ died: { outOfMemory: false, tail: "last words", rescues: 3 } });
  // There is none to keep: then the snapshot is all that is left.
  volumes = [];
  expect(await tryOnce()).toBeUndefined();
  expect(record.current.keepVolume).toBe(false);
  expect(told.splice(0)).toMatchObject([{ text: expect.stringMatching(/^the volume is lost; /) }]);
  recovered.length = 0;
  volumes = [{ name: `trimo-${job.run}-1`, run: job.run }];
  expect(await tryOnce()).toBeUndefined();
  expect(record.current.keepVolume).toBe(true);
  expect(recovered).toEqual([
    {
      name: "hello (Trimo)",
      email: "trimo@users.noreply.github.com",
      message: "Keep what run 1 left uncommitted\n\nTrimo-Run: abcdefghijkm",
    },
  ]);
  expect(told).toMatchObject([
    {
      text: "the volume could not be read; uncommitted work is as it was at 03:04 UTC, by the last snapshot",
    },
  ]);
  // As a daemon finds it that starts again.
  expect(readRecords(fileDisk, data)[0]?.record?.keepVolume).toBe(true);
});
