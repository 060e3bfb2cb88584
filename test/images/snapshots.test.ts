import { expect, test } from "vitest";
import { cpuMsOf, pauseAfter } from "../../images/base/snapshots.ts";

test.each([
  ["a cheap one", 20, 1, 0, 15_000],
  ["one that takes a hundredth of the run's CPU at that pace", 150, 1, 0, 15_000],
  ["a dear one", 400, 1, 0, 40_000],
  ["a dear one of a run with two CPUs", 400, 2, 0, 20_000],
  ["one that failed", 20, 1, 1, 30_000],
  ["the third that failed", 20, 1, 3, 120_000],
  ["one of very many that failed", 20, 1, 2_000, 600_000],
  ["a very dear one that failed", 10_000, 1, 3, 1_000_000],
])("after %s the next one waits", (_name, cpuMs, cpus, failures, wanted) => {
  expect(pauseAfter(cpuMs, cpus, failures)).toBe(wanted);
});

test("the CPU's time is what bash prints last: its own and its children's, user and system", () => {
  const printed = "fatal: 1m2s is no time\n0m0.010s 0m0.002s\n1m0.100s 0m0.050s";
  expect(cpuMsOf(printed)).toBeCloseTo(60_162, 6);
  expect(cpuMsOf("")).toBe(0);
});
