import fc from "fast-check";
import { expect, test } from "vitest";
import { composePrompt, droppedInTurn } from "../../../app/prompt/compose.ts";
import { stages } from "../../../app/protocol/event.ts";
import { failureCodes } from "../../../app/protocol/failure.ts";
import type { Cause } from "../../../app/state/cause.ts";
import type { Position } from "../../../app/state/position.ts";
import { runStates } from "../../../app/state/schema.ts";
import { parseCommand } from "../../../app/text/command.ts";
import { checkBody, configCheckBody } from "../../../app/view/check-body.ts";
import { commentBody } from "../../../app/view/comment-body.ts";
import { helpTable } from "../../../app/view/help.ts";
import { mistakeList } from "../../../app/view/mistakes.ts";
import { pullBody } from "../../../app/view/pull-body.ts";
import { replyBody } from "../../../app/view/reply.ts";
import type { RunView } from "../../../app/view/run-view.ts";

// Nothing that Trimo writes may trigger Trimo, or be more than GitHub takes, whatever agents, people and
// checks have said.

const links = {
  run: (id: string) => `https://trimo.example.com/runs/${id}`,
  pull: (repository: string, number: number) => `https://github.com/${repository}/pull/${number}`,
};

/** What somebody would write who wants Trimo to say a command. */
const hostile = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        "/trimo cancel",
        "\n/trimo cancel",
        "\n\n/trimo run evil",
        "\r/trimo run",
        "```",
        "\n```\n",
        "````\n",
        "~~~\n",
        "> ",
        "\n- ",
        "<!--",
        "-->",
        "<!-- trimo:end -->",
        "|",
        "\\",
        "`",
        "</sub>",
        "<details>",
        "@everyone ",
        "\u202e",
        "\u2028",
        "\u0000",
        "é🎉",
      ),
      fc.string({ maxLength: 12 }),
      fc.constant("x".repeat(3_000)),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(""));
const maybe = <T>(arb: fc.Arbitrary<T>) => fc.option(arb, { nil: null });
const sha = fc.constant("4f1c2e0".padEnd(40, "0"));

const position = fc.oneof(
  fc.constant<Position>({ position: null, startsInMs: null, waits: { for: "hold" } }),
  fc.constant<Position>({
    position: 3,
    startsInMs: 240_000,
    waits: { for: "slot", daemons: [{ name: "studio", busy: 2, slots: 2 }] },
  }),
  fc.constant<Position>({ position: null, startsInMs: null, waits: { for: "daemon", away: [] } }),
  fc.constant<Position>({
    position: null,
    startsInMs: 7_200_000,
    waits: {
      for: "quota",
      code: "quota_reached",
      agent: "claude",
      daemons: ["studio"],
      until: 1_795_350_000_000,
    },
  }),
);

const cause: fc.Arbitrary<Cause> = fc.oneof(
  hostile.map((login) => ({ by: "person" as const, login })),
  fc.record({ by: fc.constant("pull" as const), login: hostile, merged: fc.boolean() }),
  hostile.map((login) => ({ by: "branch" as const, login })),
  hostile.map((account) => ({ by: "uninstalled" as const, account })),
  fc.record({ by: fc.constant("refusal" as const), branch: hostile, why: hostile }),
  hostile.map((name) => ({ by: "daemon" as const, name })),
);

const view: fc.Arbitrary<RunView> = fc
  .record({
    state: fc.constantFrom(...runStates),
    words: maybe(hostile),
    text: hostile,
    detail: maybe(hostile),
    failure: maybe(fc.constantFrom(...failureCodes)),
    requestedBy: hostile,
    cancelledBy: maybe(cause),
    agent: maybe(hostile),
    title: hostile,
    changed: fc.boolean(),
    adopted: fc.boolean(),
    commits: fc.array(fc.record({ sha, subject: hostile }), { maxLength: 4 }),
    receipts: fc.array(
      fc.record({
        index: fc.nat(9),
        command: hostile,
        exitCode: fc.constantFrom(0, 1, 137),
        durationMs: fc.nat(100_000),
        tail: hostile,
      }),
      { maxLength: 3 },
    ),
    services: fc.array(
      fc.record({
        name: fc.constantFrom("postgres", "redis"),
        state: fc.constantFrom("ready" as const, "died" as const, "running" as const),
        durationMs: fc.nat(10_000),
        tail: hostile,
      }),
      { maxLength: 2 },
    ),
    notes: fc.array(hostile, { maxLength: 3 }),
    conflicts: maybe(fc.array(hostile, { maxLength: 8 })),
    plan: maybe(fc.array(fc.record({ text: hostile, done: fc.boolean() }), { maxLength: 4 })),
    session: maybe(
      fc.record({
        from: fc.constantFrom("session" as const, "handoff" as const, "nothing" as const),
        why: hostile,
      }),
    ),
    position,
  })
  .map((one) => ({
    run: {
      id: "abcdefghijkm",
      pipelineId: "abcdefghijkn",
      workspace: 77,
      repository: "acme/app",
      number: 7,
      state: one.state,
      stage: "agent" as const,
      attempt: 1,
      prompt: one.text,
      kind: "fix" as const,
      requestHash: "",
      composed: one.text,
      handoff: one.text,
      askedImage: null,
      fresh: false,
      fallback: [],
      acceptsMessages: one.changed,
      tokens: 1_200,
      costMicroUsd: 620_000,
      thread: 12,
      label: null,
      requestedBy: one.requestedBy,
      origin: { by: "label" as const, label: one.text },
      agent: one.agent,
      image: one.agent,
      daemon: "studio",
      declinedBy: [],
      priority: 0,
      failureCode: one.failure,
      failureDetail: one.detail,
      cancelledBy: one.cancelledBy,
      changed: one.changed,
      commits: 1,
      lastSeq: 1,
      commentId: null,
      commentDeleted: false,
      commentHash: null,
      headSha: null,
      askedAt: 1,
      createdAt: 1,
      startedAt: 2,
      endedAt: one.state === "running" || one.state === "queued" ? null : 3,
    },
    pipeline: {
      id: "abcdefghijkn",
      workspace: 77,
      repository: "acme/app",
      repositoryId: 7,
      issue: 12,
      title: one.title,
      branch: "trimo/12-x",
      baseBranch: "main",
      baseSha: null,
      openingSha: null,
      branchReady: true,
      headSha: null,
      pullRequest: "draft" as const,
      pullNumber: 13,
      pullNodeId: "x",
      pullState: "open" as const,
      state: "open" as const,
      adopted: one.adopted,
      held: false,
      priority: 0,
      done: false,
      deleteBranch: false,
      failedCi: null,
      createdAt: 1,
    },
    stages: stages.map((stage) => ({ stage, durationMs: 10 })),
    commits: one.commits,
    receipts: one.receipts,
    services: one.services,
    words: one.words,
    lines: [{ at: 1, text: one.text }],
    drift: { behind: 2, conflicts: one.conflicts },
    plan: one.plan,
    session: one.session,
    kept: { commits: true, volume: true },
    connections: [],
    usage: { inputTokens: 1_200, outputTokens: 10, costMicroUsd: 620_000 },
    notes: one.notes,
    position: one.state === "queued" ? one.position : null,
  }));

const runs = { numRuns: 400 };

test("no comment, check, question or pull request of Trimo's speaks to Trimo", () => {
  fc.assert(
    fc.property(view, (one) => {
      const check = checkBody(one, links.run("x"), 10);
      const { requestedBy: to, agent } = one.run;
      const told = { pipeline: one.pipeline, runs: [one.run], views: [one] };
      const written = [
        commentBody(one, links, 10),
        replyBody({ kind: "question", to, agent, text: one.run.failureDetail ?? "" }),
        replyBody({ kind: "agent_comment", run: one.run.number, agent, text: one.run.prompt }),
        check.title,
        check.summary,
        check.text ?? "",
        pullBody("", told, links),
      ];
      for (const body of written) expect(parseCommand(body), body).toBeNull();
    }),
    runs,
  );
});

test("and none of it is more than GitHub takes, or leaves a fence open", () => {
  fc.assert(
    fc.property(view, fc.integer({ min: 1, max: 60 }), (one, times) => {
      const big = {
        ...one,
        lines: Array.from({ length: 30 }, () => ({ at: 1, text: "é".repeat(300) })),
      };
      big.receipts = big.receipts.map((r) => ({
        ...r,
        tail: r.tail.repeat(times).slice(0, 8_000),
      }));
      const check = checkBody(big, links.run("x"), 10);
      for (const body of [check.summary, check.text ?? "", commentBody(big, links, 10)]) {
        expect(Buffer.byteLength(body)).toBeLessThan(65_536);
        expect(openFence(body)).toBe(false);
      }
      expect(check.annotations?.length ?? 0).toBeLessThanOrEqual(50);
      for (const { label, description, identifier } of check.actions ?? []) {
        expect(label.length).toBeLessThanOrEqual(20);
        expect(description.length).toBeLessThanOrEqual(40);
        expect(identifier.length).toBeLessThanOrEqual(20);
      }
    }),
    runs,
  );
});

function openFence(markdown: string): boolean {
  let open: string | null = null;
  for (const row of markdown.split("\n")) {
    const fence = /^(`{3,})[^`]*$/.exec(row)?.[1];
    if (!fence) continue;
    if (open === null) open = fence;
    else if (row.trim().startsWith(open) && /^`+$/.test(row.trim())) open = null;
  }
  return open !== null;
}

test("what people wrote around Trimo's part of a pull request stays", () => {
  fc.assert(
    fc.property(view, hostile, hostile, (one, before, after) => {
      const clean = (text: string) => text.replaceAll("trimo:", "");
      const { run, pipeline } = one;
      const first = pullBody(clean(before), { pipeline, runs: [run], views: [one] }, links);
      const twice = { pipeline, runs: [run, run], views: [one, one] };
      const second = pullBody(`${first}${clean(after)}`, twice, links);
      expect(second.startsWith(clean(before).trimEnd())).toBe(true);
      expect(second.endsWith(clean(after))).toBe(true);
      expect(second.split("<!-- trimo:begin -->")).toHaveLength(2);
      expect(second.split("<!-- trimo:end -->")).toHaveLength(2);
    }),
    runs,
  );
});

test("an agent's comment shows no image, calls nobody, closes nothing and is not Trimo's own", () => {
  const hostile = [
    "![x](https://evil.example/secret) ![y][z]",
    "<img src=https://evil.example/secret> <picture><source></picture>",
    "@ana &#64;ana &commat;ana",
    "fixes #1, Closes #2",
    "<!-- trimo:run=abc -->",
    "✅ **Run 7** finished",
  ].join("\n");
  const body = replyBody({ kind: "agent_comment", run: 3, agent: "claude", text: hostile });
  expect(body).not.toMatch(/!\[|<img|<picture|<source|<!--|@ana|&#64;|&commat;|fixes #|Closes #/);
  const [first, blank, ...rest] = body.split("\n");
  expect(first).toContain("`claude` says in run 3");
  expect(blank).toBe("");
  expect(rest.every((line) => line.startsWith("> "))).toBe(true);
});

test("help and mistakes speak to nobody", () => {
  fc.assert(
    fc.property(hostile, (text) => {
      const list = mistakeList([{ line: 3, text }]);
      expect(parseCommand(list)).toBeNull();
      expect(parseCommand(configCheckBody(false, [{ line: 3, text }], 1).summary)).toBeNull();
    }),
    runs,
  );
  expect(parseCommand(helpTable())).toBeNull();
});

test("verify output becomes annotations: a file, a line and the words, never a path outside", () => {
  const [one] = fc.sample(view, { numRuns: 1, seed: 1 });
  if (!one) throw new Error("no sample");
  const tail = [
    "src/a.ts:12:3: error TS1: no",
    "src/b.ts(7,1): error TS2: nor this",
    "/workspace/lib/c.py:9: AssertionError",
    "./d.go:4:2: undefined: x",
    "../e.ts:1: outside",
    "/etc/passwd.txt:1: outside",
    "12:30:45: a time",
    "http://x.y:80: a page",
    "src/a.ts:12:3: error TS1: no",
  ].join("\n");
  const receipts = [{ index: 0, command: "npm test", exitCode: 1, durationMs: 1, tail }];
  const body = checkBody(
    { ...one, run: { ...one.run, state: "failed", failureCode: "verify_failed" }, receipts },
    "x",
    1,
  );
  expect(body.annotations?.map(({ path, line }) => `${path}:${line}`)).toEqual([
    "src/a.ts:12",
    "src/b.ts:7",
    "lib/c.py:9",
    "d.go:4",
  ]);
});

test("a prompt that is too long loses the earliest of what matters least, and says so; the request stays", () => {
  const piece = (n: number) => `${n} ${"x".repeat(9_000)}`;
  const many = [1, 2, 3, 4, 5, 6];
  const { text, handoff, dropped } = composePrompt({
    request: "Do exactly this.",
    branch: "trimo/12-x",
    base: "main",
    moved: [],
    earlier: many.map((n) => ({
      number: n,
      agent: "claude",
      prompt: "old",
      result: "failed",
      words: "w".repeat(9_000),
      commits: [],
      receipts: [],
    })),
    reviews: many.map((n) => ({ by: "ana", body: piece(n), spot: null })),
    checks: many.map((n) => ({ name: `c${n}`, result: "failure", output: piece(n) })),
    receipts: [{ command: "npm test", exitCode: 1, tail: "red" }],
    thread: many.map((n) => ({ by: "ben", body: `said ${piece(n)}` })),
    leftOut: [],
  });
  expect(text.length).toBeLessThanOrEqual(95_000);
  expect(text.startsWith("Do exactly this.")).toBe(true);
  expect(text).toContain("red");
  // Earlier runs went before the thread, the thread from its oldest on; nothing of the reviews.
  expect(handoff).toBe("");
  expect(text).not.toContain("> said 1 x");
  expect(text).toContain("> said 6 x");
  expect(text).toContain("> 1 x");
  expect(dropped.length).toBeGreaterThan(0);
  for (const note of dropped) expect(text).toContain(note);
  expect(droppedInTurn).toEqual(["earlier", "thread", "checks", "receipts", "reviews"]);
});
