import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@libsql/client/sqlite3";
import { eq, sql } from "drizzle-orm";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { isRefused, settle, takeEvents } from "../../../app/daemons/intake.ts";
import { endLeases, recoverDeliveries } from "../../../app/dispatch/expire.ts";
import { claimNext, type Daemon } from "../../../app/dispatch/queue.ts";
import type { Delivery, GitHub } from "../../../app/github/app.ts";
import type { Event } from "../../../app/protocol/wire.ts";
import { type Database, openDatabase } from "../../../app/state/database.ts";
import { newId } from "../../../app/state/identity.ts";
import { held, leaseMs, renew } from "../../../app/state/lease.ts";
import { open, record } from "../../../app/state/pipeline.ts";
import { findRun, move, start } from "../../../app/state/run.ts";
import { daemons, deliveries } from "../../../app/state/schema.ts";
import { createWake } from "../../../app/state/wake.ts";

// The queue, leases and intake on a real libsql file; time is an argument.

let folder: string;
let db: Database;
let now: number;
const clock = { now: () => now, sleep: async () => {} };
const log = pino({ level: "silent" });
const sweepParts = () => ({ db, github: {} as GitHub, clock, wake: createWake(), log });

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "trimo-queue-"));
  db = await openDatabase(`file:${join(folder, "app.db")}`, undefined);
  now = 1_800_000_000_000;
});
afterEach(() => {
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

async function daemon(name: string, more: Partial<Daemon> = {}): Promise<Daemon> {
  const row = {
    id: newId(),
    name,
    tokenHash: name,
    repositories: ["*"],
    agents: ["hello"],
    createdAt: now,
    ...more,
  };
  await db.write((tx) => tx.insert(daemons).values(row));
  const [found] = await db.read.select().from(daemons).where(eq(daemons.id, row.id));
  if (!found) throw new Error("not stored");
  return found;
}
async function pipeline(issue: number, repository = "acme/app") {
  return await db.write(async (tx) => {
    const row = await open(
      tx,
      now,
      {
        id: newId(),
        workspace: 1,
        repository,
        repositoryId: 7,
        issue,
        title: `Issue ${issue}`,
        baseBranch: "main",
      },
      {},
    );
    await record(tx, row.id, {
      baseSha: "a".repeat(40),
      openingSha: "b".repeat(40),
      headSha: "b".repeat(40),
    });
    return row;
  });
}
async function run(pipelineId: string, agent: string | null = null, repository = "acme/app") {
  now += 1;
  return await db.write((tx) =>
    start(tx, now, {
      id: newId(),
      pipelineId,
      workspace: 1,
      repository,
      prompt: "p",
      composed: "p",
      requestedBy: "ana",
      trigger: "t",
      agent,
      image: null,
    }),
  );
}
const claim = (who: Daemon, key = newId()) => db.write((tx) => claimNext(tx, now, who, key));
const started: Event = {
  seq: 1,
  at: 1,
  type: "started",
  agent: "hello",
  image: "trimo/base:bookworm",
  cpus: 1,
  memoryBytes: 1,
  minutes: 1,
  steers: false,
};
const send = (who: Daemon, id: string, attempt: number, events: Event[]) =>
  db.write((tx) => takeEvents(tx, now, who, id, attempt, events));

test("runs are claimed oldest first, those of one pipeline strictly one after another, each once", async () => {
  const [a, b] = [await daemon("a"), await daemon("b")];
  const [p, q] = [await pipeline(1), await pipeline(2)];
  const first = await run(p.id);
  const second = await run(p.id);
  const third = await run(q.id);
  const claims = await Promise.all([claim(a), claim(b), claim(a), claim(b)]);
  expect(claims.map((job) => job?.run ?? null)).toEqual([first.id, third.id, null, null]);
  const row = await findRun(db.read, first.id);
  await db.write((tx) => move(tx, now, row as never, "failed", {}, null));
  expect((await claim(b))?.run).toBe(second.id);
});

test("a claim asked again with its key gives the same job, not another", async () => {
  const a = await daemon("a");
  await run((await pipeline(1)).id);
  await run((await pipeline(2)).id);
  const job = await claim(a, "the-same-key");
  expect(await claim(a, "the-same-key")).toEqual(job);
});

test("a run goes only to a daemon that serves its repository, has its agent and has not declined it", async () => {
  const p = await pipeline(1);
  await run(p.id, "codex");
  expect(await claim(await daemon("elsewhere", { repositories: ["other/*"] }))).toBeNull();
  expect(await claim(await daemon("agentless"))).toBeNull();
  expect(
    await claim(await daemon("foreign", { agents: ["codex"], account: "someone" })),
  ).toBeNull();
  const able = await daemon("able", { agents: ["codex"] });
  const job = await claim(able);
  const end = {
    attempt: 1,
    lastSeq: 0,
    outcome: "declined" as const,
    failure: { code: "repository_refused" as const, detail: "no" },
    head: null,
    changed: false,
    quota: null,
  };
  await db.write((tx) => settle(tx, now, able, job?.run ?? "", end));
  expect(await claim(able)).toBeNull();
  expect((await claim(await daemon("second", { agents: ["codex"] })))?.attempt).toBe(2);
});

test("a pipeline without its branch is not claimed", async () => {
  const p = await pipeline(1);
  await db.write((tx) => record(tx, p.id, { openingSha: null }));
  await run(p.id);
  expect(await claim(await daemon("a"))).toBeNull();
});

test("a lease that ends before the run starts queues it again, and after three attempts gives it up", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  for (const attempt of [1, 2, 3]) {
    expect((await claim(a))?.attempt).toBe(attempt);
    now += leaseMs + 1;
    await endLeases(sweepParts());
    await endLeases(sweepParts());
    expect((await findRun(db.read, id))?.state).toBe(attempt < 3 ? "queued" : "lost");
  }
});

test("a lease that ends after the run has started loses it: it is never run a second time", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  await send(a, id, 1, [started]);
  now += leaseMs - 1;
  await endLeases(sweepParts());
  expect((await findRun(db.read, id))?.state).toBe("running");
  now += leaseMs;
  await endLeases(sweepParts());
  expect(await findRun(db.read, id)).toMatchObject({ state: "lost", failureCode: "daemon_lost" });
  expect(await claim(a)).toBeNull();
});

test("a renewed lease holds, and only for its attempt and its daemon", async () => {
  const [a, b] = [await daemon("a"), await daemon("b")];
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  expect(await held(db.read, id, 1, b.id)).toBeNull();
  expect(await held(db.read, id, 2, a.id)).toBeNull();
  now += leaseMs - 1;
  await db.write((tx) => renew(tx, now, id));
  now += leaseMs - 1;
  await endLeases(sweepParts());
  expect(await held(db.read, id, 1, a.id)).not.toBeNull();
});

test("events are stored once, in order and without gaps, whatever is sent how often", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  const say = (seq: number): Event => ({ seq, at: seq, type: "say", text: `${seq}` });
  expect(await send(a, id, 1, [say(2)])).toEqual({ acknowledged: 0 });
  expect(await send(a, id, 1, [started, say(2)])).toEqual({ acknowledged: 2 });
  expect(await send(a, id, 1, [started, say(2), say(3), say(5)])).toEqual({ acknowledged: 3 });
  const { eventsAfter } = await import("../../../app/state/event.ts");
  const log = (await eventsAfter(db, id, 0, 100)).filter((event) => event.attempt === 1);
  expect(log.map((event) => event.seq)).toEqual([1, 2, 3]);
});

test("a stale attempt changes nothing: neither events, nor the end", async () => {
  const [a, b] = [await daemon("a"), await daemon("b")];
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  now += leaseMs + 1;
  await endLeases(sweepParts());
  expect((await claim(b))?.attempt).toBe(2);
  expect(isRefused(await send(a, id, 1, [started]))).toBe(true);
  const end = {
    attempt: 1,
    lastSeq: 0,
    outcome: "failed" as const,
    failure: null,
    head: null,
    changed: false,
    quota: null,
  };
  expect(isRefused(await db.write((tx) => settle(tx, now, a, id, end)))).toBe(true);
  expect(await findRun(db.read, id)).toMatchObject({ state: "claimed", attempt: 2 });
});

test("a run settles only when all its events are here, and twice is once", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  await send(a, id, 1, [started]);
  const end = {
    attempt: 1,
    lastSeq: 2,
    outcome: "succeeded" as const,
    failure: null,
    head: "c".repeat(40),
    changed: true,
    quota: null,
  };
  const finish = () => db.write((tx) => settle(tx, now, a, id, end));
  expect(await finish()).toMatchObject({ code: "gap" });
  await send(a, id, 1, [{ seq: 2, at: 2, type: "pushed", sha: "c".repeat(40) }]);
  expect(await finish()).toEqual({ settled: true });
  expect(await finish()).toEqual({ settled: true });
  expect(await findRun(db.read, id)).toMatchObject({
    state: "succeeded",
    changed: true,
    headSha: "c".repeat(40),
  });
});

test("missed deliveries are asked for again; those here or answered are not", async () => {
  const at = now - 10 * 60_000;
  const rows: Delivery[] = [
    { id: 1, guid: "missed", deliveredAt: at, ok: false },
    { id: 2, guid: "stored", deliveredAt: at, ok: false },
    { id: 3, guid: "again", deliveredAt: at, ok: false },
    { id: 4, guid: "again", deliveredAt: at + 1, ok: true },
  ];
  const asked: number[] = [];
  const github = {
    deliveries: async () => rows,
    redeliver: async (id: number) => void asked.push(id),
  } as unknown as GitHub;
  await db.write((tx) =>
    tx.insert(deliveries).values({
      guid: "stored",
      event: "ping",
      payload: "",
      state: "handled",
      receivedAt: at,
      dueAt: at,
    }),
  );
  await recoverDeliveries({ ...sweepParts(), github });
  expect(asked).toEqual([1]);
});

test("what another process's lock kept from being written is an error, and what is written then is there", async () => {
  const guid = sql.placeholder("guid");
  const row = {
    guid,
    event: "ping",
    payload: "",
    state: "handled",
    receivedAt: 1,
    dueAt: 1,
  } as const;
  const insert = db.statement((writer) => writer.insert(deliveries).values(row).prepare());
  const path = `file:${join(folder, "app.db")}`;
  const other = createClient({ url: path });
  const lock = await other.transaction("write");
  await expect(insert({ guid: "locked" })).rejects.toThrow("SQLITE_BUSY");
  await lock.rollback();
  await insert({ guid: "free" });
  await daemon("free");
  // Told as written: then it is there for everybody, and nothing that follows takes it back.
  const { rows } = await other.execute(
    "select guid from deliveries where guid in ('locked','free')",
  );
  expect(rows.map((found) => found.guid)).toEqual(["free"]);
  const { rows: named } = await other.execute("select name from daemons where name = 'free'");
  expect(named).toHaveLength(1);
  other.close();
});

test("writes wait for another process's lock and are all there afterwards", async () => {
  const { spawn } = await import("node:child_process");
  const script = `
    const { default: Database } = await import("libsql");
    const db = new Database(${JSON.stringify(join(folder, "app.db"))});
    db.exec("PRAGMA busy_timeout = 10000");
    for (let i = 0; i < 20; i++) {
      db.exec("BEGIN IMMEDIATE");
      await new Promise((r) => setTimeout(r, 15));
      db.exec("COMMIT");
      await new Promise((r) => setTimeout(r, 5));
    }`;
  const other = spawn(process.execPath, ["--input-type=module", "-e", script], {
    stdio: "inherit",
  });
  const gone = new Promise((resolve) => other.on("exit", resolve));
  const names = Array.from({ length: 60 }, (_, i) => `d${i}`);
  for (const name of names) {
    await daemon(name);
    await clock.sleep();
  }
  expect(await gone).toBe(0);
  expect((await db.read.select().from(daemons)).map((row) => row.name).sort()).toEqual(
    [...names].sort(),
  );
});
