import { expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import { RunningState } from "../../../app/protocol/running-state.ts";

/** A clock whose sleeps end only by their signal, or when the test ends them. */
function heldClock() {
  const sleeps: { ms: number; end: () => void }[] = [];
  const sleep = (ms: number, signal: AbortSignal) =>
    new Promise<void>((resolve) => {
      if (signal.aborted) return resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
      sleeps.push({ ms, end: resolve });
    });
  return { sleeps, clock: { ...systemClock, now: () => 0, chance: () => 1, sleep } };
}

test("a wake between the look for work and the sleep is not lost", async () => {
  const { clock, sleeps } = heldClock();
  const state = new RunningState(clock);
  const seen = state.wakes;
  state.wake();
  await state.sleepUnlessWoken(seen, 1_000);
  await state.sleepUnlessWoken(seen);
  expect(sleeps).toEqual([]);
});

test("a sleep ends by a wake, by its time, or by the loop's end", async () => {
  const { clock, sleeps } = heldClock();
  const outer = new AbortController();
  const state = new RunningState(clock, outer.signal);
  const woken = state.sleepUntilWoken(1_000);
  state.wake();
  await woken;
  const timed = state.sleepUntilWoken(2_000);
  sleeps[1]?.end();
  await timed;
  const stopped = Promise.all([state.sleepUntilWoken(), state.sleep(3_000)]);
  outer.abort();
  await stopped;
  expect(sleeps.map(({ ms }) => ms)).toEqual([1_000, 2_000, 3_000]);
  expect(state.running).toBe(false);
});

test("a loop that nobody wakes leaves no listener behind, however often it looks", async () => {
  const warnings: string[] = [];
  const onWarning = (warning: Error) => warnings.push(warning.name);
  process.on("warning", onWarning);
  const state = new RunningState({ ...systemClock, sleep: async () => {} });
  for (let looks = 0; looks < 50; looks++) await state.sleepUntilWoken(1);
  await systemClock.turn();
  process.off("warning", onWarning);
  expect(warnings).toEqual([]);
});

test("the backoff grows with each failure in a row and begins anew after a success", async () => {
  const slept: number[] = [];
  const sleep = async (ms: number) => void slept.push(ms);
  const state = new RunningState({ ...systemClock, chance: () => 1, sleep });
  const backoff = { baseMs: 100, mostMs: 500 };
  for (let turns = 0; turns < 4; turns++) await state.backOff(backoff);
  state.succeeded();
  await state.backOff(backoff);
  expect(slept).toEqual([200, 400, 500, 500, 200]);
});
