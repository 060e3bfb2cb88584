import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readConfig } from "../../../app/config.ts";
import { createGitHub } from "../../../app/github/app.ts";
import { createPermissions } from "../../../app/github/permission.ts";
import { runReports } from "../../../app/reports/reconcile.ts";
import { type Database, openDatabase } from "../../../app/state/database.ts";
import { newId } from "../../../app/state/identity.ts";
import { open } from "../../../app/state/pipeline.ts";
import { nextDue, wantOnce } from "../../../app/state/report.ts";
import { findRun, move, start } from "../../../app/state/run.ts";
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
const clock = {
  now: () => now,
  sleep: (ms: number, signal: AbortSignal) =>
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
const stop = new AbortController();
const wake = createWake();

beforeAll(async () => {
  github = await startStandIn({
    repositories: [{ fullName: repository, source: null }],
    people: { ana: "admin" },
  });
  await github.repositories.commitFile(repository, "main", "README.md", "x\n", "Begin");
  db = await openDatabase(`file:${join(folder, "app.db")}`, undefined);
  const config = readConfig({ ...github.env, TRIMO_DATA: folder, PORT: "0" } as never);
  const log = pino({ level: "silent" });
  const real = createGitHub(config, log);
  const links = { run: (id: string) => `http://x/${id}`, pull: () => "http://x" };
  const permissions = createPermissions(real, clock);
  void runReports(
    { db, github: real, permissions, clock, wake, log, links },
    config.writesPerMinute,
    stop.signal,
  );
});
afterAll(async () => {
  stop.abort();
  for (const look of [...sleeping]) look();
  await github.stop();
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

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
    for (const n of [1, 2, 3])
      await wantOnce(tx, now, 77, "reply", `r${n}`, { repository, issue, body: `word ${n}` });
  });
  wake.emit("reports", 77);
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
  expect(bodies.sort()).toEqual(["word 1", "word 2", "word 3"]);
  expect(await nextDue(db, 77)).toBeNull();
});

test("a permission that was taken away is tried, given up and kept with its reason; the run itself goes on", async () => {
  const issue = await github.openIssue("ana", repository, "Lowered", "");
  const run = await db.write(async (tx) => {
    const pipeline = await open(
      tx,
      now,
      {
        id: newId(),
        workspace: 77,
        repository,
        repositoryId: 1,
        issue,
        title: "Lowered",
        baseBranch: "main",
      },
      {},
    );
    return await start(tx, now, {
      id: newId(),
      pipelineId: pipeline.id,
      workspace: 77,
      repository,
      prompt: "p",
      composed: "p",
      requestedBy: "ana",
      trigger: "label trimo",
      agent: null,
      image: null,
    });
  });
  const forbidden = { times: 100, at: "before" as const, status: 403 };
  github.state.faults.push({ when: /^(POST|PATCH) .*check-runs/, ...forbidden });
  wake.emit("reports", 77);
  await until("its comment", async () => {
    await pass(5_000);
    return (await github.comments(repository, issue)).length > 0;
  });
  await until("the check given up", async () => {
    await pass(30_000);
    return (await nextDue(db, 77)) === null;
  });
  github.state.faults.length = 0;
  expect(github.checks(repository)).toEqual([]);
  const row = await findRun(db.read, run.id);
  if (!row) throw new Error("no run");
  await db.write((tx) => move(tx, now, row, "cancelled", { cancelledBy: "ana" }, null));
  wake.emit("reports", 77);
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
  await github.comment("ana", repository, issue, `> <!-- trimo:reply=${subject} -->\n> word`);
  github.state.faults.push({ when: /^POST .*comments$/, times: 1, at, status: 502 });
  await db.write((tx) =>
    wantOnce(tx, now, 77, "reply", subject, { repository, issue, body: "word" }),
  );
  wake.emit("reports", 77);
  await until("it to be written", async () => {
    await pass(2_000);
    return (await nextDue(db, 77)) === null;
  });
  const bots = (await github.comments(repository, issue)).filter(
    (one) => one.user.login === "trimo[bot]",
  );
  expect(bots.map((one) => one.body.split("\n")[1])).toEqual(["word"]);
});
