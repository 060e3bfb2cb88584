import { eq } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Job } from "../../../app/protocol/job.ts";
import { pauses, runs } from "../../../app/state/schema.ts";
import type { Machine } from "../../support/machine.ts";
import { until } from "../../support/rig.ts";
import { startTalk, type Talk } from "../../support/talk.ts";

// What the app makes of agents: words to one at work, quotas that are used up, sessions and where they
// lie. Every test has a workspace of its own.

const verify = "verify: [npm test]\n";
const places: Record<string, string | null> = {
  "tell/app": verify,
  "deaf/app": verify,
  "quota/app": verify,
  "overloaded/app": verify,
  "turns/app": `agent: [claude, codex, lint]\n${verify}`,
  "fresh/app": verify,
  "home/app": verify,
  "spent/app": verify,
};
let talk: Talk;
let studio: Machine;

beforeAll(async () => {
  talk = await startTalk(places);
  studio = await talk.machine("studio", 20, ["claude", "codex"]);
});
afterAll(async () => await talk.stop());

const runsOf = async (fullName: string) =>
  await talk.db.read.select().from(runs).where(eq(runs.repository, fullName)).orderBy(runs.number);

async function begun(fullName: string, agent = "claude", acceptsMessages = false) {
  const issue = await talk.issue(fullName, "Agents");
  await talk.github.label("ana", fullName, issue, agent === "" ? "trimo" : `trimo:${agent}`);
  const job = await studio.work(agent || "claude", acceptsMessages);
  return { issue, job };
}

const renewed = async (job: Job, received: number) =>
  (await studio.ask(`runs/${job.run}/renew`, { attempt: job.attempt, received })).body as {
    messages: { id: number; by: string; text: string }[];
  };
const quota = (job: Job, resetAt: number | null, agents: string[]) =>
  studio.settle(job, {
    outcome: "failed",
    failure: { code: "quota_reached", detail: "429 rate limited" },
    quota: { resetAt, agents },
  });

describe("/trimo tell", () => {
  test("reaches an agent that takes messages with its next renewal, once and in order", async () => {
    const at = "tell/app";
    const { issue, job } = await begun(at, "claude", true);
    await talk.said(at, issue, "`/trimo tell …` reaches the agent now");
    await talk.github.comment("ben", at, issue, "/trimo tell Mention the moon.\nAnd the sun.");
    await until("the first", async () => (await renewed(job, 0)).messages.length === 1);
    await talk.github.comment("ana", at, issue, "/trimo tell agent=x is a word like any other");
    const { messages } = await until("both", async () => {
      const answer = await renewed(job, 0);
      return answer.messages.length === 2 ? answer : null;
    });
    expect(messages).toEqual([
      { id: 1, by: "ben", text: "Mention the moon.\nAnd the sun." },
      { id: 2, by: "ana", text: "agent=x is a word like any other" },
    ]);
    expect((await renewed(job, 1)).messages).toMatchObject([{ id: 2 }]);
    expect((await renewed(job, 2)).messages).toEqual([]);
    await talk.github.comment("sam", at, issue, "/trimo tell Stop at once");
    await talk.said(at, issue, "⛔", "`/trimo tell` needs write permission here");
    expect((await renewed(job, 2)).messages).toEqual([]);
    await talk.github.comment("ben", at, issue, "/trimo tell");
    await talk.said(at, issue, "Add your message");
    expect(await runsOf(at)).toHaveLength(1);
    // The first was heard, the second not: it is the next run.
    await studio.tell(job, { type: "message", id: 1, by: "ben", text: "Mention the moon." });
    await talk.finish(studio, job);
    await talk.said(at, issue, "Run 1 ended before ana's message arrived", "run 2");
    const next = await studio.work("claude");
    expect(next.prompt).toContain("agent=x is a word like any other");
    expect(next.prompt).not.toContain("Mention the moon");
    await talk.finish(studio, next);
  });

  test("is a corrective run where nobody hears it, and the answer says so", async () => {
    const at = "deaf/app";
    const { issue, job } = await begun(at, "codex");
    await talk.github.comment("ben", at, issue, "/trimo tell Mention the moon.");
    await talk.said(at, issue, "`codex` takes no messages while it works", "run 2");
    const [, second] = await runsOf(at);
    expect(second).toMatchObject({ kind: "fix", prompt: "Mention the moon.", agent: "codex" });
    await talk.finish(studio, job);
    await talk.finish(studio, await studio.work("codex"));
    await talk.github.comment("ben", at, issue, "/trimo tell And the sun.");
    await talk.said(at, issue, "No agent is working here", "run 3");
    await talk.finish(studio, await studio.work("codex"));
  });
});

describe("a quota that is used up", () => {
  test("pauses the agent until its reset, tells everybody who waits, and the run goes on by itself", async () => {
    const at = "quota/app";
    const { issue, job } = await begun(at);
    const other = await talk.issue(at, "Another");
    await talk.commit(studio, job, "HALF");
    await talk.github.label("ana", at, other, "trimo:claude");
    await until("the other run", async () => (await runsOf(at)).length === 2);
    await quota(job, Date.now() + 2 * 3_600_000, ["claude"]);
    await talk.said(at, issue, "❌ **Run 1**", "quota_reached", "If a follow-up run is queued");
    await talk.said(at, issue, "⏳ **Run 2**", "waiting for quota · starts in about 2 h");
    await talk.said(
      at,
      other,
      "⏳ **Run 1**",
      "The quota of `claude` on `studio` is used up until",
    );
    const next = await until("its prompt", async () =>
      (await runsOf(at)).find((run) => run.number === 2 && run.composed !== null),
    );
    expect(next).toMatchObject({
      agent: "claude",
      origin: { by: "quota", first: { by: "label", label: "trimo:claude" } },
      requestedBy: "ana",
    });
    expect(next.composed).toContain("Continue what run 1 was asked to do");
    expect(await studio.claim()).toBeNull();
    // Another machine has a key of its own.
    const mini = await talk.machine("mini", 1, ["claude"]);
    const taken = await until("a claim elsewhere", () => mini.claim());
    expect(taken.repository).toBe(at);
    await mini.settle(taken, { outcome: "cancelled" });
    await mini.hello(0, ["claude"]);
    // The time has come.
    await talk.db.write(async (tx) => void (await tx.update(pauses).set({ until: 1 })));
    const back = await until("its turn", () => studio.claim(), 15_000);
    expect(back.repository).toBe(at);
    await studio.settle(back, { outcome: "cancelled" });
  });

  test("so does a service that does not answer properly, for five minutes, and says so", async () => {
    const at = "overloaded/app";
    const { issue, job } = await begun(at);
    await studio.settle(job, {
      outcome: "failed",
      failure: { code: "model_overloaded", detail: "529 overloaded" },
      quota: { resetAt: Date.now() + 5 * 60_000, agents: ["claude"] },
    });
    await talk.said(at, issue, "❌ **Run 1**", "model_overloaded", "If a follow-up run is queued");
    await talk.said(
      at,
      issue,
      "⏳ **Run 2**",
      "waiting for the model's service · starts in about 5 min",
      "The service behind `claude` on `studio` did not answer properly; the run starts by itself at",
    );
    expect(await studio.claim()).toBeNull();
    await talk.db.write(async (tx) => void (await tx.update(pauses).set({ until: 1 })));
    const back = await until("its turn", () => studio.claim(), 15_000);
    await studio.settle(back, { outcome: "cancelled" });
  });

  test("hands over to the next agent of the list at once; cancelling ends the wait when all are used up", async () => {
    const at = "turns/app";
    const { issue, job } = await begun(at, "");
    expect(job.agent).toBe("claude");
    await quota(job, Date.now() + 3_600_000, ["claude"]);
    const next = await studio.work("codex");
    expect(next.agent).toBe("codex");
    expect(next.handoff).toContain("Run 1 (failed, by claude) was asked");
    await talk.said(at, issue, "🔄 **Run 2**", "codex");
    await quota(next, null, ["codex"]);
    await talk.said(at, issue, "⏳ **Run 3**", "waiting for quota");
    const third = await until("its prompt", async () =>
      (await runsOf(at)).find((run) => run.number === 3 && run.composed !== null),
    );
    // One prefix, however often it goes on.
    expect(third.composed?.match(/Continue what run/g)).toHaveLength(1);
    expect(third.fallback).toEqual(["claude", "codex"]);
    await talk.github.comment("ben", at, issue, "/trimo cancel");
    await talk.said(at, issue, "⏹️ **Run 3** was cancelled by ben");
    await talk.db.write(async (tx) => void (await tx.delete(pauses)));
    expect(await studio.claim()).toBeNull();
  });
});

describe("what the agent knows of the runs before", () => {
  test("a fresh start goes along to the machine, and nothing of a handoff", async () => {
    const at = "fresh/app";
    const { issue, job } = await begun(at);
    await talk.finish(studio, job);
    await talk.github.comment("ben", at, issue, "/trimo run fresh agent=codex from the beginning");
    const next = await studio.work("codex");
    expect(next).toMatchObject({ fresh: true, agent: "codex" });
    expect(next.prompt).toContain("from the beginning");
    await studio.tell(next, {
      type: "session",
      from: "nothing",
      why: "a fresh start was asked for",
    });
    await talk.finish(studio, next);
    await talk.said(at, issue, "✅ **Run 2**", "knows nothing of the earlier runs");
  });

  test("the machine that had the pipeline last comes first, for a moment; then whoever is there", async () => {
    const at = "home/app";
    const { issue, job } = await begun(at);
    await talk.finish(studio, job);
    const other = await talk.machine("other", 2, ["claude"]);
    await talk.github.comment("ben", at, issue, "/trimo continue");
    await until("its prompt", async () => (await runsOf(at)).at(-1)?.composed);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const created = (await runsOf(at)).at(-1)?.createdAt ?? 0;
    const early = await other.claim();
    // On a machine too busy for it the moment may be over.
    if (Date.now() - created < 4_000) expect(early).toBeNull();
    if (early) {
      await other.settle(early, { outcome: "cancelled" });
      return await other.hello(0, ["claude"]);
    }
    const mine = await until("the first claim", () => studio.claim());
    expect(mine.number).toBe(2);
    await studio.settle(mine, { outcome: "cancelled" });
    await talk.github.comment("ben", at, issue, "/trimo continue once more");
    const late = await until("somebody else's claim", () => other.claim());
    expect(late.number).toBe(3);
    await other.settle(late, { outcome: "cancelled" });
    await other.hello(0, ["claude"]);
  });
});

test("tokens and cost are told per run and per pipeline, a plan as a checklist, contents never", async () => {
  const at = "spent/app";
  const { issue, job } = await begun(at, "claude", true);
  await studio.tell(
    job,
    { type: "tool", name: "Bash", target: "npm test" },
    { type: "edit", path: "src/date.ts", added: 12, removed: 3 },
    {
      type: "plan",
      items: [
        { text: "reproduce it", done: true },
        { text: "fix `it` @ana", done: false },
      ],
    },
    {
      type: "usage",
      inputTokens: 40_000,
      cachedTokens: 900_000,
      outputTokens: 1_000,
      costMicroUsd: 620_000,
    },
    {
      type: "model",
      status: 529,
      firstByteMs: 3,
      durationMs: 4,
      retry: false,
      problem: "529 Overloaded",
    },
    { type: "egress", host: "example.com:443", allowed: false, reason: "not on the list" },
  );
  await talk.said(at, issue, "- [x] reproduce it", "- [ ] fix");
  await talk.finish(studio, job);
  const check = await until("its check", () =>
    talk.github
      .checks(at)
      .find((row) => row.status === "completed" && row.output.summary.includes("41k")),
  );
  expect(check.output.summary).toContain("41k tokens, $0.62");
  expect(check.output.text).toContain("edit src/date.ts +12 −3");
  expect(check.output.text).toContain("529 Overloaded");
  const pull = await until("the pull request's sum", async () => {
    const now = await talk.pullOf(at, issue);
    return now.body?.includes("1 run by Trimo · 41k tokens · $0.62") ? now : null;
  });
  expect(pull.body).toContain("$0.62");
  const page = await (await fetch(`${talk.url}/runs/${job.run}`)).text();
  for (const words of ["Network connections", "example.com:443", "refused", "reproduce it"])
    expect(page).toContain(words);
});
