import { expect, test } from "vitest";
import type { Installation } from "../../../app/github/installation.ts";
import { type Clock, systemClock } from "../../../app/protocol/clock.ts";
import { paced } from "../../../app/reports/pace.ts";

/** How many writes of a kind leave in the first minute, by a process that is begun anew `restarts` times. */
async function inAMinute(write: "updateCheck" | "createComment", perMinute: number, restarts = 0) {
  let now = 0;
  const clock: Clock = {
    ...systemClock,
    now: () => now,
    sleep: async (ms) => {
      now += ms;
    },
  };
  const github = { [write]: async () => {} } as unknown as Installation;
  const { signal } = new AbortController();
  const begin = (rested: boolean) =>
    paced(github, { perMinute, rested, clock, signal }).installation;
  let installation = begin(true);
  let writes = 0;
  let begun = 0;
  for (;;) {
    await (installation[write] as () => Promise<unknown>)();
    if (now >= 60_000) return writes;
    writes += 1;
    if (begun < restarts && now > (begun + 1) * 10_000) {
      begun += 1;
      installation = begin(false);
    }
  }
}

test("comments and other writes together stay below GitHub's 80 and 180 a minute, whatever is killed", async () => {
  for (const restarts of [0, 5]) {
    const content = await inAMinute("createComment", 70, restarts);
    const other = await inAMinute("updateCheck", 70, restarts);
    expect(content).toBeGreaterThan(55);
    expect(content).toBeLessThanOrEqual(80);
    expect(other).toBeGreaterThan(85);
    expect(content + other).toBeLessThanOrEqual(180);
  }
});

test("another server's pace is in proportion", async () => {
  expect(await inAMinute("createComment", 7)).toBeLessThanOrEqual(8);
  expect(await inAMinute("createComment", 140)).toBeGreaterThan(110);
});
