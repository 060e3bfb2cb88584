import { expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import { RunningState } from "../../../app/protocol/running-state.ts";
import { type Server, ServerError } from "../../../daemon/server/client.ts";
import { keepLease, Term } from "../../../daemon/server/lease.ts";

const leaseMs = 120_000;
type Answer = { leaseMs: number; cancel: boolean; messages: { id: number }[] } | ServerError;
const good = { leaseMs, cancel: false, messages: [] };

/** A clock whose time goes on as far as the next sleep's end, whenever nothing else is left to do. */
function movingClock() {
  const sleeps = new Set<{ until: number; end: () => void }>();
  let now = 0;
  const sleep = (ms: number, signal: AbortSignal) =>
    new Promise<void>((resolve) => {
      if (signal.aborted) return resolve();
      const mine = { until: now + ms, end: resolve };
      sleeps.add(mine);
      const end = () => {
        sleeps.delete(mine);
        signal.removeEventListener("abort", end);
        resolve();
      };
      mine.end = end;
      signal.addEventListener("abort", end, { once: true });
    });
  return {
    clock: { ...systemClock, now: () => now, chance: () => 1, sleep },
    async forward(ms: number) {
      const until = now + ms;
      for (;;) {
        for (let turns = 0; turns < 5; turns++) await systemClock.turn();
        const next = [...sleeps].sort((a, b) => a.until - b.until)[0];
        if (!next || next.until > until) break;
        now = next.until;
        next.end();
      }
      now = until;
    },
  };
}

/** Keeps a lease of two minutes before an app that answers as told; the last answer is given for ever. */
function keep(...answers: Answer[]) {
  const { clock, forward } = movingClock();
  const asked: number[] = [];
  const heard: string[] = [];
  const server = {
    renew: async () => {
      asked.push(clock.now());
      const answer = (answers.length > 1 ? answers.shift() : answers[0]) ?? good;
      if (answer instanceof ServerError) throw answer;
      return answer;
    },
  } as unknown as Server;
  const state = new RunningState(clock);
  const term = new Term(clock);
  const holder = {
    onCancel: () => heard.push("cancel"),
    onLost: (why: string) => {
      heard.push(`lost at ${clock.now() / 1_000}: ${why}`);
      state.stop();
    },
    term,
    onSilent: () => heard.push(`silent at ${clock.now() / 1_000}`),
    received: () => 0,
    onMessages: (messages: { id: number }[]) => heard.push(`messages ${messages.map((m) => m.id)}`),
  };
  const kept = keepLease(server, { runId: "r", attempt: 1, leaseMs }, holder, state);
  return { asked, heard, state, forward, kept, term };
}

const away = new ServerError("unreachable", "away");

test("a token that is replaced under a run that has started ends nothing: it waits for the new one", async () => {
  const unknown = new ServerError("unauthorized", "The app does not know this token");
  const lease = keep({ ...good, leaseMs: 15 * 60_000 }, unknown);
  await lease.forward(25_000);
  expect(lease.term.isGood).toBe(true);
  await lease.forward(20_000);
  // Another may have the run by now: nothing is pushed meanwhile.
  expect(lease.term.isGood).toBe(false);
  await lease.forward(20 * 60_000);
  expect(lease.heard).toEqual(["silent at 890"]);
  lease.state.stop();
  await lease.kept;
});

test("a lease is renewed after a sixth of its time, again and again, until the loop stops", async () => {
  const { asked, heard, forward, state, kept } = keep(good);
  await forward(61_000);
  expect(asked).toEqual([20_000, 40_000, 60_000]);
  state.stop();
  await kept;
  expect(heard).toEqual([]);
});

test("an app that is away for a while is asked again within seconds, and the lease holds", async () => {
  const { asked, heard, forward, state } = keep(away, away, good);
  await forward(30_000);
  expect(asked.length).toBeGreaterThanOrEqual(3);
  expect(asked.slice(0, 3).every((at) => at < 30_000)).toBe(true);
  expect(heard).toEqual([]);
  state.stop();
});

test("an app that stays away: the lease counts as lost half a minute before its end", async () => {
  const { heard, forward, kept } = keep(away);
  await forward(leaseMs);
  expect(heard).toEqual(["lost at 90: the app did not answer before the lease's end"]);
  await kept;
});

test("each renewal counts from when it was asked for", async () => {
  const { heard, forward } = keep(good, away);
  await forward(200_000);
  expect(heard).toEqual(["lost at 110: the app did not answer before the lease's end"]);
});

test("what the app refuses for good is lost at once", async () => {
  const { heard, forward } = keep(new ServerError("stale", "another attempt has it"));
  await forward(21_000);
  expect(heard).toEqual(["lost at 20: another attempt has it"]);
});

test("a cancel and messages come with the renewal, and a wake brings it at once", async () => {
  const { asked, heard, forward, state } = keep({
    leaseMs,
    cancel: true,
    messages: [{ id: 7 }],
  });
  await forward(1_000);
  state.wake();
  await forward(1);
  expect(asked).toEqual([1_000]);
  expect(heard).toEqual(["cancel", "messages 7"]);
  state.stop();
});

test("a long lease is renewed as often, and outlasts an app that is away for ten minutes", async () => {
  const long = { ...good, leaseMs: 900_000 };
  const { asked, heard, forward, state } = keep(long, ...Array(118).fill(away), long);
  await forward(20_000 + 600_000);
  expect(heard).toEqual([]);
  await forward(120_000);
  expect(heard).toEqual([]);
  const [last = 0, before = 0] = asked.toReversed();
  expect(last - before).toBe(20_000);
  state.stop();
});

test("a run that has started outlasts an app that is silent for an hour: nothing is lost, and its term ends meanwhile", async () => {
  const long = { ...good, leaseMs: 900_000 };
  const { heard, forward, state, term } = keep(long, ...Array(722).fill(away), long);
  const regained: string[] = [];
  term.onRegained(() => regained.push("regained"));
  await forward(30_000);
  expect(term.isGood).toBe(true);
  await forward(3_500_000);
  expect(heard).toEqual(["silent at 890"]);
  expect(term.isGood).toBe(false);
  await forward(200_000);
  expect(term.isGood).toBe(true);
  expect(regained).toEqual(["regained"]);
  state.stop();
});

test("a term is not good while the clock stands before it began, or after half a minute before its end", () => {
  let now = 1_000_000;
  const term = new Term({ ...systemClock, now: () => now });
  expect(term.isGood).toBe(false);
  term.extend(now, now + 120_000);
  expect(term.isGood).toBe(true);
  // A machine that slept: no timer has fired, and the clock has moved.
  now += 90_000;
  expect(term.isGood).toBe(false);
  now -= 600_000;
  expect(term.isGood).toBe(false);
  term.lift();
  expect(term.isGood).toBe(true);
});
