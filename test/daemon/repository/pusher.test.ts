import { expect, test } from "vitest";
import type { Clock } from "../../../app/protocol/clock.ts";
import { Pusher } from "../../../daemon/repository/pusher.ts";
import type { Gate, PushResult } from "../../../daemon/repository/repositories.ts";

// The end of a run whose commits GitHub does not take: for how long, with which token, and what is told.

const hour = 3_600_000;
const away: PushResult = { unreachable: "fatal: unable to access: error: 503" };

/** A run's end at `at: 0`, with a GitHub that answers each push by the time since then. */
function endOf(answer: (ms: number, token: string) => PushResult, cancelAtMs = Infinity) {
  let now = 0;
  const cancel = new AbortController();
  const clock = {
    now: () => now,
    chance: () => 0.5,
    sleep: async (ms: number, signal: AbortSignal) => {
      if (signal.aborted) return;
      const hears = cancelAtMs > now && cancelAtMs <= now + ms;
      now = hears ? cancelAtMs : now + ms;
      if (hears) cancel.abort();
    },
  } as unknown as Clock;
  const gate = {
    head: async () => "new",
    commitsBetween: async () => [],
    push: async (_sha: string, token: string) => answer(now, token),
    remoteHead: async () => "new",
  } as unknown as Gate;
  const told = { waiting: 0, longAt: [] as number[], tokens: [] as (string | null)[] };
  let minted = 0;
  const pusher = new Pusher({
    gate,
    at: { told: "old", onGitHub: "old", start: "old" },
    token: async (refused = null) => {
      told.tokens.push(refused);
      if (minted === 0 || refused) minted += 1;
      return `token ${minted}`;
    },
    isOurs: () => true,
    clock,
    tell: () => {},
    signal: new AbortController().signal,
  });
  const verdict = pusher.finish("beside", {
    since: 0,
    longMs: 10 * 60_000,
    cancel: cancel.signal,
    onWaiting: () => {
      told.waiting += 1;
    },
    onLong: async () => void told.longAt.push(now),
  });
  return { verdict, told, now: () => now };
}

test("is waited for through 23 hours; after ten minutes the run keeps its commits only", async () => {
  const end = endOf((ms) => (ms < 23 * hour ? away : "pushed"));
  expect(await end.verdict).toEqual({ ok: true, head: "new" });
  expect(end.told.waiting).toBe(1);
  expect(end.told.longAt[0]).toBeGreaterThanOrEqual(600_000);
  expect(end.told.longAt[0]).toBeLessThan(720_000);
});

test("is given up after a day", async () => {
  const end = endOf(() => away);
  expect(await end.verdict).toMatchObject({ ok: false, why: "unreachable" });
  expect(end.now()).toBeGreaterThanOrEqual(24 * hour);
  expect(end.now()).toBeLessThan(24 * hour + 120_000);
});

test("of somebody who cancels is given up soon, and no sooner than after ten minutes", async () => {
  const early = endOf(() => away, 60_000);
  expect(await early.verdict).toMatchObject({ ok: false, why: "unreachable" });
  expect(early.now()).toBeGreaterThanOrEqual(600_000);
  expect(early.now()).toBeLessThan(720_000);
  const late = endOf(() => away, 5 * hour);
  expect(await late.verdict).toMatchObject({ ok: false, why: "unreachable" });
  expect(late.now()).toBe(5 * hour);
});

test("says nothing of a single hiccup", async () => {
  const end = endOf((ms) => (ms === 0 ? away : "pushed"));
  expect(await end.verdict).toEqual({ ok: true, head: "new" });
  expect(end.told).toMatchObject({ waiting: 0, longAt: [] });
});

test.each([
  "fatal: Authentication failed for 'https://github.com/acme/app.git/'",
  "The requested URL returned error: 401",
  "remote: Invalid username or token. Password authentication is not supported for Git operations.",
])("asks for another token after %s", async (text) => {
  const end = endOf((_ms, token) => (token === "token 1" ? { unreachable: text } : "pushed"));
  expect(await end.verdict).toEqual({ ok: true, head: "new" });
  expect(end.told.tokens.slice(0, 2)).toEqual([null, "token 1"]);
});

test("keeps its token when something else is wrong", async () => {
  const end = endOf((ms) => (ms < 60_000 ? away : "pushed"));
  await end.verdict;
  expect(end.told.tokens.every((refused) => refused === null)).toBe(true);
});
