import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import {
  memoryKills,
  processRefusals,
  watchDisk,
  watchProcesses,
} from "../../images/base/limits.ts";

const folder = mkdtempSync(join(tmpdir(), "trimo-cgroup-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("what the kernel refused is read", () => {
  test("from cgroup v2", () => {
    const root = join(folder, "v2");
    mkdirSync(root);
    writeFileSync(join(root, "memory.events"), "low 0\nhigh 0\nmax 7\noom 2\noom_kill 2\n");
    writeFileSync(join(root, "pids.events"), "max 5\n");
    expect([memoryKills(root), processRefusals(root)]).toEqual([2, 5]);
  });
  test("from cgroup v1", () => {
    const root = join(folder, "v1");
    mkdirSync(join(root, "memory"), { recursive: true });
    mkdirSync(join(root, "pids"));
    const control = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
    writeFileSync(join(root, "memory/memory.oom_control"), control);
    writeFileSync(join(root, "pids/pids.events"), "max 9\n");
    expect([memoryKills(root), processRefusals(root)]).toEqual([3, 9]);
  });
  test("as nothing where there is none", () => {
    expect([memoryKills("/nowhere"), processRefusals("/nowhere")]).toEqual([0, 0]);
  });
});

test("processes refused now and then are a build, refused again and again a bomb", () => {
  let refusals = 3;
  const crowded = watchProcesses(() => refusals);
  const looks = (count: number) => Array.from({ length: count }, crowded);
  for (let i = 0; i < 5; i++) {
    refusals += 10;
    expect(crowded()).toBe(false);
  }
  expect(looks(45)).not.toContain(true);
  for (let i = 0; i < 5; i++) {
    refusals += 1;
    expect(looks(6)).not.toContain(true);
  }
  refusals += 1;
  expect(crowded()).toBe(true);
});

describe("the disk", () => {
  const mb = 2 ** 20;
  const limit = { bytesMax: 1_000 * mb, reserveBytes: 500 * mb };
  function disk() {
    const state = { now: 0, free: 50_000 * mb, used: 0, measured: 0 };
    const view = {
      free: () => state.free,
      used: async () => {
        state.measured += 1;
        return state.used;
      },
    };
    const watched = watchDisk(limit, view, () => state.now);
    return {
      state,
      full: watched.full,
      async later(seconds: number) {
        state.now += seconds * 1_000;
        watched.look();
        await Promise.resolve();
        await Promise.resolve();
      },
    };
  }

  test("is measured when it shrinks, and once a minute", async () => {
    const { state, later } = disk();
    await later(2);
    await later(2);
    expect(state.measured).toBe(0);
    state.free -= 60 * mb;
    await later(2);
    expect(state.measured).toBe(1);
    await later(30);
    expect(state.measured).toBe(1);
    await later(31);
    expect(state.measured).toBe(2);
  });
  test("that a neighbour fills is not this run's fault", async () => {
    const { state, later, full } = disk();
    state.free -= 40_000 * mb;
    state.used = 900 * mb;
    await later(2);
    expect([state.measured, full()]).toEqual([1, false]);
  });
  test("over the run's limit is full", async () => {
    const { state, later, full } = disk();
    Object.assign(state, { free: state.free - 1_001 * mb, used: 1_001 * mb });
    await later(2);
    expect(full()).toBe(true);
  });
  test("nearly full is the fault of who has a good part of its limit", async () => {
    const small = disk();
    Object.assign(small.state, { free: 400 * mb, used: 100 * mb });
    await small.later(2);
    expect(small.full()).toBe(false);
    const large = disk();
    Object.assign(large.state, { free: 400 * mb, used: 300 * mb });
    await large.later(2);
    expect(large.full()).toBe(true);
  });
});
