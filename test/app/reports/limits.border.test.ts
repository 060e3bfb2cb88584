import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readConfig } from "../../../app/config.ts";
import { createGitHub } from "../../../app/github/app.ts";
import { createPermissions } from "../../../app/github/permission.ts";
import { type Clock, systemClock } from "../../../app/protocol/clock.ts";
import { RunningState } from "../../../app/protocol/running-state.ts";
import { reconcile } from "../../../app/reports/reconcile.ts";
import { type Database, openDatabase, type Tx } from "../../../app/state/database.ts";
import { randomIds } from "../../../app/state/identity.ts";
import { open } from "../../../app/state/pipeline.ts";
import { nextDue, refusalOf, requestOnce } from "../../../app/state/report.ts";
import { enqueue, findRun, move } from "../../../app/state/run.ts";
import { createWake } from "../../../app/state/wake.ts";
import { startStandIn } from "../../support/github/standin.ts";
import { until } from "../../support/rig.ts";

// GitHub's limits, with a clock that the test moves: nothing is lost by them, and nothing is sent while
// GitHub has asked to wait.

const repository = "acme/app";
const folder = mkdtempSync(join(tmpdir(), "trimo-limits-"));
let github: Awaited<ReturnType<typeof startStandIn>>;
let db: Database;
let now = Date.now();
/** Sleeps of the app's end when the test has moved the clock past them. */
const sleeping = new Set<() => void>();
const clock: Clock = {
  ...systemClock,
  now: () => now,
  sleep: (ms, signal) =>
    new Promise<void>((resolve) => {
      const at = now + ms;
      const look = () => {
        if (now < at && !signal.aborted) return;
        sleeping.delete(look);
        signal.removeEventListener("abort", look);
        resolve();
      };
      sleeping.add(look);
      signal.addEventListener("abort", look, { once: true });
      look();
    }),
};
const pass = async (ms: number) => {
  now += ms;
  for (const look of [...sleeping]) look();
  await new Promise((resolve) => setTimeout(resolve, 60));
};
const state = new RunningState(clock);
/** How long refusals are not believed here. */
const patienceMs = 600_000;
const wake = createWake();

beforeAll(async () => {
  github = await startStandIn({
    repositories: [{ fullName: repository, source: null }],
    people: { ana: "admin" },
  });
  await github.repositories.commitFile(repository, "main", "README.md", "x\n", "Begin");
  db = await openDatabase({
    url: `file:${join(folder, "app.db")}`,
    authToken: undefined,
    // It waits for another process's lock: that takes real time.
    clock: { ...clock, sleep: systemClock.sleep },
    ids: randomIds,
    wake,
  });
  const config = readConfig({ ...github.env, TRIMO_DATA: folder, PORT: "0" } as never);
  const log = pino({ level: "silent" });
  const real = createGitHub(config, clock, log);
  const links = { run: (id: string) => `http://x/${id}`, pull: () => "http://x" };
  const permissions = createPermissions(real, clock);
  void reconcile(
    { db, github: real, permissions, clock, wake, log, links, patienceMs },
    state,
    config.writesPerMinute,
  );
});
afterAll(async () => {
  state.stop();
  for (const look of [...sleeping]) look();
  await github.stop();
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

/** An answer of Trimo's, which one can tell by its number. */
const requestReply = async (tx: Tx, issue: number, subject: string, run: number) => {
  const reply = { kind: "duplicate" as const, run };
  const wanted = { kind: "reply" as const, repository, issue, reply };
  await requestOnce(tx, { workspace: 77, subject, wanted });
};
const wordsOf = (run: number) => `You asked for this a moment ago: it is run ${run}.`;
const writes = () =>
  github.state.requests.filter(({ line }) => /^(POST|PATCH) \/repos/.test(line)).length;

test("a secondary limit of ten minutes is waited out, and then all of it is said, once", async () => {
  const issue = await github.openIssue("ana", repository, "Wait", "");
  github.state.faults.push({
    when: /^POST .*comments$/,
    times: 1,
    at: "before",
    status: 403,
    headers: { "retry-after": "600" },
  });
  await db.write(async (tx) => {
    for (const n of [1, 2, 3]) await requestReply(tx, issue, `r${n}`, n);
  });
  await until("the refusal", () => github.state.requests.some(({ status }) => status === 403));
  const before = writes();
  for (let minutes = 0; minutes < 9; minutes++) await pass(60_000);
  expect(writes()).toBe(before);
  await pass(61_000);
  await until("all three", async () => {
    await pass(2_000);
    return (await github.comments(repository, issue)).length >= 3;
  });
  for (let i = 0; i < 10; i++) await pass(2_000);
  const bodies = (await github.comments(repository, issue)).map((one) => one.body.split("\n")[1]);
  expect(bodies.sort()).toEqual([wordsOf(1), wordsOf(2), wordsOf(3)]);
  expect(await nextDue(db.read, 77)).toBeNull();
});

test("a permission that was taken away is tried, given up and kept with its reason; the run itself goes on", async () => {
  const issue = await github.openIssue("ana", repository, "Lowered", "");
  const run = await db.write(async (tx) => {
    const pipeline = await open(
      tx,
      {
        workspace: 77,
        repository,
        repositoryId: 1,
        issue,
        title: "Lowered",
        baseBranch: "main",
      },
      {},
    );
    return await enqueue(tx, {
      pipelineId: pipeline.id,
      workspace: 77,
      repository,
      prompt: "p",
      composed: "p",
      requestedBy: "ana",
      origin: { by: "label", label: "trimo" },
      thread: issue,
    });
  });
  const forbidden = { times: 100, at: "before" as const, status: 403 };
  github.state.faults.push({ when: /^(POST|PATCH) .*check-runs/, ...forbidden });
  await until("its comment", async () => {
    await pass(5_000);
    return (await github.comments(repository, issue)).length > 0;
  });
  const check = () => refusalOf(db.read, "check", run.id);
  await until("the check refused for long", async () => {
    await pass(30_000);
    return now - ((await check())?.since ?? now) > patienceMs;
  });
  expect(await check()).toMatchObject({ why: "a fault of the test's" });
  expect(github.checks(repository)).toEqual([]);
  // Taken up again by itself, an hour later at the latest.
  github.state.faults.length = 0;
  await until("its check", async () => {
    await pass(600_000);
    return github.checks(repository).length > 0;
  });
  const row = await findRun(db.read, run.id);
  if (!row) throw new Error("no run");
  const cancelledBy = { by: "person" as const, login: "ana" };
  await db.write((tx) => move(tx, row, "cancelled", { cancelledBy }, null));
  await until("its end", async () => {
    await pass(5_000);
    return (await github.comments(repository, issue))[0]?.body.includes("⏹️");
  });
});

test.each([
  ["had no effect", "before"],
  ["had its effect", "after"],
] as const)("a comment whose request %s is there once; a person's quotation of it is not taken for it", async (_how, at) => {
  const issue = await github.openIssue("ana", repository, "Quoted", "");
  const subject = `quoted-${at}`;
  await github.comment(
    "ana",
    repository,
    issue,
    `> <!-- trimo:reply=${subject} -->\n> ${wordsOf(1)}`,
  );
  github.state.faults.push({ when: /^POST .*comments$/, times: 1, at, status: 502 });
  await db.write((tx) => requestReply(tx, issue, subject, 1));
  await until("it to be written", async () => {
    await pass(2_000);
    return (await nextDue(db.read, 77)) === null;
  });
  const bots = (await github.comments(repository, issue)).filter(
    (one) => one.user.login === "trimo[bot]",
  );
  expect(bots.map((one) => one.body.split("\n")[1])).toEqual([wordsOf(1)]);
});
