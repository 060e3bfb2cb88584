import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

test("a line torn in the middle is read again with all that came after it", () => {
  const first = new Outbox(path, parts);
  for (const [at, text] of ["a", "b", "c"].entries()) first.add(say(text), { output: at + 1 });
  const lines = readFileSync(path, "utf8").split("\n");
  writeFileSync(path, [lines[0], lines[1]?.slice(0, 30), lines[2], ""].join("\n"));
  const second = new Outbox(path, parts);
  expect(second.lastSeq).toBe(1);
  expect(second.mark.output).toBe(1);
  second.add(say("b"), { output: 2 });
  expect(new Outbox(path, parts).events.map((event) => event.seq)).toEqual([1, 2]);
});

test("a disk that is full for a while leaves no half line, no number and no mark behind", () => {
  let full = false;
  const disk = {
    ...fileDisk,
    append(to: string, text: string) {
      fileDisk.append(to, full ? text.slice(0, 20) : text);
      if (full) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
    },
  };
  const outbox = new Outbox(path, { ...parts, disk });
  outbox.add(say("one"), { output: 1 });
  full = true;
  expect(() => outbox.add(say("two"), { output: 2 })).toThrow("no space left");
  expect([outbox.lastSeq, outbox.mark.output]).toEqual([1, 1]);
  full = false;
  outbox.add(say("two"), { output: 2 });
  const again = new Outbox(path, parts);
  expect(again.events.map((event) => event.seq)).toEqual([1, 2]);
  expect(again.mark.output).toBe(2);
});

/** Sends what there is to an app that has `known` events already; what happened, in order. */
async function sendTo(outbox: Outbox, known: number, disk: string[]) {
  const state = new RunningState(clock);
  const server = {
    events: async (_id: string, { events }: { events: Event[] }) => {
      disk.push(`sent ${events.map((event) => event.seq)}`);
      return { acknowledged: Math.max(known, ...events.map((event) => event.seq)) };
    },
  } as unknown as Server;
  const sending = outbox.send(server, { run: "r", attempt: 1 }, state);
  await outbox.delivered(state.signal);
  state.stop();
  await sending;
}

test("what is sent is on disk before, once a batch", async () => {
  const happened: string[] = [];
  const disk = {
    ...fileDisk,
    async sync(to: string) {
      await fileDisk.sync(to);
      happened.push("on disk");
    },
  };
  const outbox = new Outbox(path, { ...parts, disk });
  for (const text of ["a", "b"]) outbox.add(say(text));
  await sendTo(outbox, 0, happened);
  outbox.add(say("c"));
  await sendTo(outbox, 0, happened);
  expect(happened).toEqual(["on disk", "sent 1,2", "on disk", "sent 3"]);
});

test("events that the app has and this machine has lost keep their numbers", async () => {
  const outbox = new Outbox(path, parts);
  outbox.add(say("a"));
  const happened: string[] = [];
  await sendTo(outbox, 5, happened);
  outbox.add({ type: "commit", sha: "a".repeat(40), subject: "New" });
  expect(outbox.lastSeq).toBe(6);
  await sendTo(outbox, 5, happened);
  expect(happened.at(-1)).toBe("sent 6");
});
