import { appendFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import type { Event } from "../../../app/protocol/event.ts";
import { RunningState } from "../../../app/protocol/running-state.ts";
import { fileDisk } from "../../../daemon/disk.ts";
import { type Server, ServerError } from "../../../daemon/server/client.ts";
import { Outbox } from "../../../daemon/server/outbox.ts";

const clock = {
  ...systemClock,
  now: () => 1_000,
  sleep: () => new Promise<void>((resolve) => setTimeout(resolve, 1)),
};
const log = pino({ level: "silent" });
const parts = { disk: fileDisk, clock, log };
let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "trimo-outbox-"));
  path = join(folder, "outbox.jsonl");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const say = (text: string) => ({ type: "say" as const, text });

test("events survive a kill, numbered on, with where reading had come to; half a line never happened", () => {
  const first = new Outbox(path, parts);
  first.add(say("one"), { output: 10 });
  first.add(say("two"), { journal: 5 });
  appendFileSync(path, '{"event":{"type":"say","te');
  const second = new Outbox(path, parts);
  expect(second.lastSeq).toBe(2);
  expect(second.mark).toEqual({ journal: 5, output: 10, transcript: 0 });
  second.add(say("three"));
  expect(readFileSync(path, "utf8").trim().split("\n")).toHaveLength(3);
  expect(new Outbox(path, parts).events.map((event) => event.seq)).toEqual([1, 2, 3]);
});

test("a fact the app would not take is left out, and a talkative agent is heard up to a number", () => {
  const outbox = new Outbox(path, parts);
  outbox.add({ type: "egress", host: "x".repeat(400), allowed: false, reason: "" });
  expect(outbox.lastSeq).toBe(0);
  for (let i = 0; i < 2_000; i++) outbox.add(say(`${i}`), { output: i });
  expect(outbox.lastSeq).toBe(500);
  expect(outbox.mark.output).toBe(1_999);
  outbox.add({ type: "stage", stage: "pushing" });
  expect(outbox.lastSeq).toBe(501);
});

test("nothing is added after the end, which counts the events", () => {
  const outbox = new Outbox(path, parts);
  outbox.add(say("one"));
  outbox.close();
  outbox.add(say("late"));
  expect(outbox.lastSeq).toBe(1);
});

test("events are sent again until they are acknowledged, in order, and a stale attempt ends it", async () => {
  const outbox = new Outbox(path, parts);
  for (const text of ["a", "b", "c"]) outbox.add(say(text));
  const seen: number[][] = [];
  const answers = [
    new ServerError("unreachable", "x"),
    { acknowledged: 1 },
    new ServerError("broken", "x"),
    { acknowledged: 3 },
  ];
  const server = {
    events: async (_id: string, { events }: { events: Event[] }) => {
      seen.push(events.map((event) => event.seq));
      const answer = answers.shift() ?? new ServerError("stale", "another attempt has it");
      if (answer instanceof Error) throw answer;
      return answer;
    },
  } as unknown as Server;
  const state = new RunningState(clock);
  const sending = outbox.send(server, { run: "r", attempt: 1 }, state);
  await outbox.delivered(state.signal);
  expect(seen).toEqual([
    [1, 2, 3],
    [1, 2, 3],
    [2, 3],
    [2, 3],
  ]);
  outbox.add(say("d"));
  await expect(sending).rejects.toThrow("another attempt has it");
});
