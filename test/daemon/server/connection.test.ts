import { pino } from "pino";
import { expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import type { Hello } from "../../../app/protocol/hello.ts";
import { RunningState } from "../../../app/protocol/running-state.ts";
import { type Server, ServerError } from "../../../daemon/server/client.ts";
import { keepConnection, RefusedError } from "../../../daemon/server/connection.ts";

/** A daemon before an app that refuses it so often; `hasRuns` is asked at each refusal. */
async function refused(code: "protocol" | "unauthorized", times: number, hasRuns: () => boolean) {
  let now = 0;
  const asked: number[] = [];
  const state = new RunningState({
    ...systemClock,
    now: () => now,
    sleep: async (ms) => {
      now += ms;
    },
  });
  const server = {
    hello: async () => {
      asked.push(now);
      if (asked.length <= times) throw new ServerError(code, "install the same version");
      state.stop();
      return { name: "studio", verdicts: [] };
    },
    stream: async () => new Response(""),
  } as unknown as Server;
  const connections: string[] = [];
  const listener = {
    hello: () => ({}) as Hello,
    hasRuns,
    connected: async ({ name }: { name: string }) => void connections.push(name),
    heard: () => {},
  };
  const log = pino({ level: "silent" });
  const error = await keepConnection({ server, listener, log }, state).catch((caught) => caught);
  return { asked, connections, error };
}

test.each([
  "protocol",
  "unauthorized",
] as const)("an app that refuses a daemon with runs in hand (%s) is asked again each minute", async (code) => {
  const { asked, connections, error } = await refused(code, 3, () => true);
  expect(asked).toEqual([0, 60_000, 120_000, 180_000]);
  expect(connections).toEqual(["studio"]);
  expect(error).toBeUndefined();
});

test("with nothing in hand, or no more, a daemon that is refused ends and says why", async () => {
  const left = [true, true, false];
  const { asked, error } = await refused("protocol", 9, () => left.shift() ?? false);
  expect(asked).toHaveLength(3);
  expect(error).toBeInstanceOf(RefusedError);
  expect(String(error)).toContain("install the same version");
});
