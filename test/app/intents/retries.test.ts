import { expect, test } from "vitest";
import { Retries } from "../../../app/intents/retries.ts";
import type { Clock } from "../../../app/protocol/clock.ts";

test("what failed is tried again after its pause, later each time, and at once where the clock was set back", () => {
  let now = 1_000_000;
  const clock = { now: () => now, chance: () => 1 } as unknown as Clock;
  const retries = new Retries<string>(clock, { baseMs: 60_000, mostMs: 3_600_000 });
  expect(retries.isDue("a")).toBe(true);
  retries.tried("a", false);
  expect(retries.isDue("a")).toBe(false);
  expect(retries.isDue("b")).toBe(true);
  now += 60_000;
  expect(retries.isDue("a")).toBe(true);
  retries.tried("a", false);
  now += 60_000;
  expect(retries.isDue("a")).toBe(false);
  now -= 600_000;
  expect(retries.isDue("a")).toBe(true);
  retries.tried("a", true);
  expect(retries.isDue("a")).toBe(true);
});
