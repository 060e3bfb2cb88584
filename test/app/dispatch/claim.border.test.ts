import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@libsql/client/sqlite3";
import { eq, sql } from "drizzle-orm";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { enroll, enrollAgain, revoke } from "../../../app/daemons/enroll.ts";
import { welcome } from "../../../app/daemons/hello.ts";
import { takeEvents } from "../../../app/daemons/intake.ts";
import { revive } from "../../../app/daemons/revive.ts";
import { daemonRoutes } from "../../../app/daemons/routes.ts";
import { settle } from "../../../app/daemons/settle.ts";
import { isRefused, mayPush } from "../../../app/daemons/speaks-for.ts";
import { claimNext } from "../../../app/dispatch/claim.ts";
import { endExpiredLeases, expire } from "../../../app/dispatch/expire.ts";
import { offersOf } from "../../../app/dispatch/offer.ts";
import { positionOf } from "../../../app/dispatch/position.ts";
import type { GitHub } from "../../../app/github/app.ts";
import type { DeliveryAttempt } from "../../../app/github/objects.ts";
import type { Tokens } from "../../../app/github/token.ts";
import { recoverDeliveries } from "../../../app/inbound/recover.ts";
import { type Clock, systemClock } from "../../../app/protocol/clock.ts";
import type { Event } from "../../../app/protocol/event.ts";
import { RunningState } from "../../../app/protocol/running-state.ts";
import type { Settle } from "../../../app/protocol/settle.ts";
import { protocolVersion } from "../../../app/protocol/version.ts";
import { checkRunsOf, markCheckTried, recordCheckRun } from "../../../app/state/check-run.ts";
import { type Daemon, findDaemon } from "../../../app/state/daemon.ts";
import { type Database, isStorageError, openDatabase } from "../../../app/state/database.ts";
import { randomIds } from "../../../app/state/identity.ts";
import { claimedLeaseMs, heldLease, renew, startedLeaseMs } from "../../../app/state/lease.ts";
import { open, recordBase, recordBranch } from "../../../app/state/pipeline.ts";
import { nextDue, requestOnce } from "../../../app/state/report.ts";
import { enqueue, findRun, move } from "../../../app/state/run.ts";
import { daemons, deliveries, pipelines, workspaces } from "../../../app/state/schema.ts";
import { createWake } from "../../../app/state/wake.ts";

// The queue, leases and intake on a real libsql file; time is an argument.

let folder: string;
let db: Database;
let now: number;
// Only the database sleeps, when another process holds its file: that takes real time.
const clock: Clock = { ...systemClock, now: () => now };
const log = pino({ level: "silent" });
/** Nothing takes time. */
const hasty: Clock = { ...clock, sleep: async () => {} };
const expireParts = () => ({ db, clock, log });

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "trimo-queue-"));
  now = 1_800_000_000_000;
  db = await openDatabase({
    url: `file:${join(folder, "app.db")}`,
    authToken: undefined,
    clock,
    ids: randomIds,
    wake: createWake(),
  });
});
afterEach(() => {
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

async function daemon(name: string, more: Partial<Daemon> = {}): Promise<Daemon> {
  const row = {
    id: randomIds.next(),
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
/** How a daemon with nothing in hand says hello. */
const greeting = {
  protocol: protocolVersion,
  version: "0",
  slots: 2,
  repositories: ["*"],
  agents: ["hello"],
  start: "",
  held: [],
};
/** A run whose first attempt was daemon a's, and whose second is daemon b's. */
async function replaced() {
  const [a, b] = [await daemon("a"), await daemon("b")];
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  now += claimedLeaseMs + 1;
  await endExpiredLeases(expireParts());
  expect((await claim(b))?.attempt).toBe(2);
  return { a, b, id };
}
/** A pipeline whose branch is not made yet. */
async function branchless(issue: number, repository = "acme/app") {
  return await db.write(async (tx) => {
    const row = await open(
      tx,
      {
        workspace: 1,
        repository,
        repositoryId: 7,
        issue,
        title: `Issue ${issue}`,
        baseBranch: "main",
      },
      {},
    );
    await recordBase(tx, row.id, "a".repeat(40));
    return row;
  });
}
async function pipeline(issue: number, repository = "acme/app") {
  const row = await branchless(issue, repository);
  const sha = "b".repeat(40);
  await db.write((tx) =>
    recordBranch(tx, row.id, { branch: row.branch, openingSha: sha, headSha: sha }),
  );
  return row;
}
async function run(pipelineId: string, agent: string | null = null, repository = "acme/app") {
  now += 1;
  return await db.write((tx) =>
    enqueue(tx, {
      pipelineId,
      workspace: 1,
      repository,
      prompt: "p",
      composed: "p",
      requestedBy: "ana",
      origin: { by: "label", label: "trimo" },
      thread: 1,
      agent,
    }),
  );
}
const claim = (who: Daemon, key = randomIds.next()) => db.write((tx) => claimNext(tx, who, key));
const started: Event = {
  seq: 1,
  at: 1,
  type: "started",
  agent: "hello",
  image: "trimo/base:bookworm",
  cpus: 1,
  memoryBytes: 1,
  minutes: 1,
  acceptsMessages: false,
};
const send = (who: Daemon, id: string, attempt: number, events: Event[]) =>
  db.write((tx) => takeEvents(tx, { daemon: who, runId: id, attempt }, events));
const end = (who: Daemon, id: string, how: Settle) =>
  db.write((tx) => settle(tx, { daemon: who, runId: id, attempt: how.attempt }, how));

test("runs are claimed oldest first, those of one pipeline strictly one after another, each once", async () => {
  const [a, b] = [await daemon("a"), await daemon("b")];
  const [p, q] = [await pipeline(1), await pipeline(2)];
  const first = await run(p.id);
  const second = await run(p.id);
  const third = await run(q.id);
  const claims = await Promise.all([claim(a), claim(b), claim(a), claim(b)]);
  expect(claims.map((job) => job?.run ?? null)).toEqual([first.id, third.id, null, null]);
  const row = await findRun(db.read, first.id);
  await db.write((tx) => move(tx, row as never, "failed", {}, null));
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
  const how = {
    attempt: 1,
    lastSeq: 0,
    outcome: "declined" as const,
    failure: { code: "repository_refused" as const, detail: "no" },
    head: null,
    changed: false,
    quota: null,
  };
  await end(able, job?.run ?? "", how);
  expect(await claim(able)).toBeNull();
  expect((await claim(await daemon("second", { agents: ["codex"] })))?.attempt).toBe(2);
});

test("a pipeline without its branch is not claimed", async () => {
  const p = await branchless(1);
  await run(p.id);
  expect(await claim(await daemon("a"))).toBeNull();
});

test("a lease that ends before the run starts queues it again, and after three attempts gives it up", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  for (const attempt of [1, 2, 3]) {
    expect((await claim(a))?.attempt).toBe(attempt);
    now += claimedLeaseMs + 1;
    await endExpiredLeases(expireParts());
    await endExpiredLeases(expireParts());
    expect((await findRun(db.read, id))?.state).toBe(attempt < 3 ? "queued" : "lost");
  }
});

test("a lease that ends after the run has started loses it: it is never run a second time", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  await send(a, id, 1, [started]);
  now += startedLeaseMs - 1;
  await endExpiredLeases(expireParts());
  expect((await findRun(db.read, id))?.state).toBe("running");
  now += startedLeaseMs;
  await endExpiredLeases(expireParts());
  expect(await findRun(db.read, id)).toMatchObject({ state: "lost", failureCode: "daemon_lost" });
  expect(await claim(a)).toBeNull();
});

test("a new token leaves a daemon its runs; a revoked one has none, nor a way to GitHub for what it had", async () => {
  const routes = daemonRoutes({ db, tokens: {} as Tokens, clock, wake: createWake() });
  const ask = async (token: string, path: string, body: object) => {
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const request = { method: "POST", headers, body: JSON.stringify(body) };
    return (await routes.request(path, request)).status;
  };
  const first = String(await enroll(db, { name: "a", account: null, secret: "1" }));
  const studio = (await findDaemon(db.read, "a")) as Daemon;
  const hello = { ...greeting, start: "one" };
  await db.write((tx) => welcome(tx, studio, hello));
  const a = (await findDaemon(db.read, "a")) as Daemon;
  const [runs, waits] = [await run((await pipeline(1)).id), await run((await pipeline(2)).id)];
  await claim(a);
  await send(a, runs.id, 1, [started]);
  await claim(a);

  const token = String(await enrollAgain(db, { name: "a", secret: "2" }));
  expect(await ask(first, "/hello", hello)).toBe(401);
  expect(await ask(token, `/runs/${runs.id}/renew`, { attempt: 1, received: 0 })).toBe(200);

  expect(await revoke(db, "a")).toBe(2);
  expect((await findRun(db.read, runs.id))?.state).toBe("lost");
  expect((await findRun(db.read, waits.id))?.state).toBe("queued");
  for (const [path, body] of [
    ["/hello", hello],
    ["/claim", { key: "k" }],
    [`/runs/${runs.id}/renew`, { attempt: 1, received: 0 }],
    [`/runs/${runs.id}/events`, { attempt: 1, events: [] }],
    [`/runs/${runs.id}/token`, { attempt: 1, purpose: "kept", fresh: false }],
  ] as const)
    expect(await ask(token, path, body), path).toBe(401);
  expect(await revoke(db, "a")).toMatchObject({
    problem: expect.stringContaining("trimo machines"),
  });
  expect(await enrollAgain(db, { name: "a", secret: "3" })).toMatchObject({
    problem: expect.stringContaining("No daemon"),
  });
});

test("a revoked daemon's stream ends at its next sign of life", async () => {
  const routes = daemonRoutes({ db, tokens: {} as Tokens, clock: hasty, wake: createWake() });
  const token = String(await enroll(db, { name: "a", account: null, secret: "1" }));
  const headers = { authorization: `Bearer ${token}` };
  const reader = (await routes.request("/stream", { headers })).body?.getReader();
  const text = async () => new TextDecoder().decode((await reader?.read())?.value);
  expect(await text()).toContain("hello");
  expect(await text()).toContain("still here");
  await revoke(db, "a");
  let last = await reader?.read();
  while (!last?.done) last = await reader?.read();
});

test("a lost run's work is taken from its machine for a week", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  await send(a, id, 1, [started]);
  now += startedLeaseMs + 1;
  await endExpiredLeases(expireParts());
  const push = () => db.write((tx) => mayPush(tx, { daemon: a, runId: id, attempt: 1 }, "push"));
  expect(isRefused(await push())).toBe(false);
  now += 8 * 24 * 3_600_000;
  expect(isRefused(await push())).toBe(true);
});

test("a lost run goes on when its daemon is heard of again, with a check of its own", async () => {
  const a = await daemon("a");
  const { id, pipelineId } = await run((await pipeline(1)).id);
  await claim(a);
  await send(a, id, 1, [started]);
  now += startedLeaseMs + 1;
  await endExpiredLeases(expireParts());
  expect((await findRun(db.read, id))?.state).toBe("lost");
  await db.write((tx) => markCheckTried(tx, id, "c".repeat(40)));
  const completed = { remoteId: 7, completed: true, written: "" };
  await db.write((tx) => recordCheckRun(tx, id, "c".repeat(40), completed));
  const of = { daemon: a, runId: id, attempt: 1 };
  expect(await db.write((tx) => revive(tx, of))).toBe(startedLeaseMs);
  expect(await findRun(db.read, id)).toMatchObject({
    state: "running",
    failureCode: null,
    endedAt: null,
  });
  expect(await checkRunsOf(db.read, id)).toEqual([]);
  // And is told so at the connection that comes next.
  now += startedLeaseMs + 1;
  await endExpiredLeases(expireParts());
  const hello = { ...greeting, held: [{ run: id, attempt: 1 }] };
  const answer = await db.write((tx) => welcome(tx, a, hello));
  expect(answer.verdicts).toEqual([{ run: id, attempt: 1, verdict: "continue" }]);
  // Not when the pipeline has gone on without it.
  now += startedLeaseMs + 1;
  await endExpiredLeases(expireParts());
  await run(pipelineId);
  const b = await daemon("b");
  expect((await claim(b))?.number).toBe(2);
  expect(await db.write((tx) => revive(tx, of))).toBeNull();
  expect((await findRun(db.read, id))?.state).toBe("lost");
});

test("whoever had an attempt once may push what it has kept of it, and nobody else", async () => {
  const { a, b, id } = await replaced();
  const of = (who: Daemon, attempt: number) => ({ daemon: who, runId: id, attempt });
  const pushes = (who: Daemon, attempt: number) =>
    db.write(async (tx) => !isRefused(await mayPush(tx, of(who, attempt), "kept")));
  expect([await pushes(a, 1), await pushes(b, 2)]).toEqual([true, true]);
  expect([await pushes(a, 2), await pushes(b, 1), await pushes(a, 3)]).toEqual([
    false,
    false,
    false,
  ]);
  // The branch, and what is said in the repository, are for those who are at work.
  expect(await db.write((tx) => mayPush(tx, of(a, 1), "push"))).toMatchObject({ code: "stale" });
  expect(await db.write((tx) => mayPush(tx, of(a, 1), "read"))).toMatchObject({ code: "stale" });
});

test("what a daemon's last start had and its new one has not goes back to the queue at once", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  await db.write((tx) => welcome(tx, a, { ...greeting, start: "another" }));
  expect(await findRun(db.read, id)).toMatchObject({ state: "queued", daemon: null });
  expect((await claim(a))?.attempt).toBe(2);
});

test("a renewed lease holds, and only for its attempt and its daemon", async () => {
  const [a, b] = [await daemon("a"), await daemon("b")];
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  expect(await heldLease(db.read, { runId: id, attempt: 1, daemonId: b.id })).toBeNull();
  expect(await heldLease(db.read, { runId: id, attempt: 2, daemonId: a.id })).toBeNull();
  now += claimedLeaseMs - 1;
  await db.write((tx) => renew(tx, id));
  now += claimedLeaseMs - 1;
  await endExpiredLeases(expireParts());
  expect(await heldLease(db.read, { runId: id, attempt: 1, daemonId: a.id })).not.toBeNull();
});

test("events are stored once, in order and without gaps, whatever is sent how often", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  const say = (seq: number): Event => ({ seq, at: seq, type: "say", text: `${seq}` });
  expect(await send(a, id, 1, [say(2)])).toEqual({ acknowledged: 0 });
  expect(await send(a, id, 1, [started, say(2)])).toEqual({ acknowledged: 2 });
  expect(await send(a, id, 1, [started, say(2), say(3), say(5)])).toEqual({ acknowledged: 3 });
  const { factsAfter } = await import("../../../app/state/event.ts");
  const log = (await factsAfter(db.read, id, 0, 100)).filter((event) => event.attempt === 1);
  expect(log.map((event) => event.seq)).toEqual([1, 2, 3]);
});

test("a stale attempt changes nothing: neither events, nor the end", async () => {
  const { a, id } = await replaced();
  expect(isRefused(await send(a, id, 1, [started]))).toBe(true);
  const how = {
    attempt: 1,
    lastSeq: 0,
    outcome: "failed" as const,
    failure: null,
    head: null,
    changed: false,
    quota: null,
  };
  expect(isRefused(await end(a, id, how))).toBe(true);
  expect(await findRun(db.read, id)).toMatchObject({ state: "claimed", attempt: 2 });
});

test("a run settles only when all its events are here, and twice is once", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  await send(a, id, 1, [started]);
  const how = {
    attempt: 1,
    lastSeq: 2,
    outcome: "succeeded" as const,
    failure: null,
    head: "c".repeat(40),
    changed: true,
    quota: null,
  };
  const finish = () => end(a, id, how);
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
  const rows: DeliveryAttempt[] = [
    { id: 1, guid: "missed", deliveredAt: at, status: 502 },
    { id: 2, guid: "stored", deliveredAt: at, status: 502 },
    { id: 3, guid: "again", deliveredAt: at, status: 502 },
    { id: 4, guid: "again", deliveredAt: at + 1, status: 202 },
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
  await recoverDeliveries({ ...expireParts(), github }, new RunningState(hasty));
  expect(asked).toEqual([1]);
});

test("a restored database asks for what it has forgotten; one that is new leaves alone what another app took", async () => {
  const look = async (rows: DeliveryAttempt[]) => {
    const asked: number[] = [];
    const github = {
      deliveries: async (since: number) => rows.filter((row) => row.deliveredAt >= since),
      redeliver: async (id: number) => void asked.push(id),
    };
    await recoverDeliveries({ ...expireParts(), github }, new RunningState(hasty));
    return asked;
  };
  const taken = { id: 1, guid: "taken", deliveredAt: now - 60_000, status: 202 };
  expect(await look([taken])).toEqual([]);
  now += 24 * 3_600_000;
  // It came in and was answered, and then the database was put back to what it had been before.
  const forgotten = { id: 2, guid: "forgotten", deliveredAt: now - 3_600_000, status: 202 };
  expect(await look([forgotten, taken])).toEqual([2]);
  // As long as it is missing, the list is read from there on.
  now += 3_600_000;
  expect(await look([forgotten])).toEqual([2]);
});

test("what this app itself refuses five times is asked for no more; what never reached it is, for three days", async () => {
  const attempts = (guid: string, status: number) =>
    Array.from({ length: 6 }, (_, i) => ({
      id: i + (status === 401 ? 10 : 20),
      guid,
      deliveredAt: now - 600_000 + i,
      status,
    }));
  const asked: number[] = [];
  const github = {
    deliveries: async () => [...attempts("refused", 401), ...attempts("unreached", 502)],
    redeliver: async (id: number) => void asked.push(id),
  };
  await recoverDeliveries({ ...expireParts(), github }, new RunningState(hasty));
  expect(asked).toEqual([20]);
});

test("missed deliveries are asked for in the order they were made, and one that fails keeps no other", async () => {
  // As GitHub lists them: the newest first, with another try of the first in between.
  const rows: [number, string][] = [
    [40, "third"],
    [30, "first"],
    [20, "second"],
    [10, "first"],
  ];
  const asked: number[] = [];
  const github = {
    deliveries: async () =>
      rows.map(
        ([id, guid]) => ({ id, guid, deliveredAt: now + id, status: 502 }) as DeliveryAttempt,
      ),
    redeliver: async (id: number) => {
      asked.push(id);
      if (id === 20) throw new Error("502");
    },
  };
  await recoverDeliveries({ ...expireParts(), github }, new RunningState(hasty));
  expect(asked).toEqual([10, 20, 40]);
});

test("a full disk is called by its name, without what was to be written, and is over when there is room again", async () => {
  const pages = (n: number) => db.write((tx) => tx.run(sql.raw(`PRAGMA max_page_count = ${n}`)));
  const place = { repositoryId: null, thread: null, branch: null, express: false };
  const large = { event: "ping", payload: "secret ".repeat(200_000), ...place };
  const rest = { state: "handled" as const, receivedAt: 1, dueAt: 1 };
  const store = (guid: string) =>
    db.write((tx) => tx.insert(deliveries).values({ guid, ...large, ...rest }));
  await pages(1);
  const error = await store("full").catch((caught) => caught as Error);
  expect(String(error)).toMatch(/full/);
  expect(String(error)).not.toContain("secret");
  expect(isStorageError(error)).toBe(true);
  expect(db.problem()).toContain("full");
  await pages(1_000_000);
  await store("room");
  expect(db.problem()).toBeNull();
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
    await clock.turn();
  }
  expect(await gone).toBe(0);
  expect((await db.read.select().from(daemons)).map((row) => row.name).sort()).toEqual(
    [...names].sort(),
  );
});

test("a suspended account's runs are claimed by nobody, and nobody's position counts them", async () => {
  const own = await daemon("a", { seenAt: now, slots: 1 });
  const [p, q] = [await pipeline(1, "paused/app"), await pipeline(2)];
  await db.write(async (tx) => {
    const older = await enqueue(tx, {
      pipelineId: p.id,
      workspace: 2,
      repository: "paused/app",
      prompt: "p",
      composed: "p",
      requestedBy: "ana",
      origin: { by: "label", label: "trimo" },
      thread: 1,
      agent: null,
    });
    await tx
      .insert(workspaces)
      .values({ id: older.workspace, account: "paused", state: "suspended" });
  });
  const mine = await run(q.id);
  const ready = await db.read.select().from(pipelines).where(eq(pipelines.id, q.id));
  const { position } = await positionOf(db.read, mine, ready[0] as never, now);
  expect(position).toBe(1);
  expect((await claim(own))?.run).toBe(mine.id);
  expect(await claim(own)).toBeNull();
});

/** One turn of the loop that ends what has expired, then as many as `more` says, each after `stepMs`. */
async function expiring(more: number, stepMs: (turn: number) => number) {
  let turn = 0;
  const moving: Clock = {
    ...clock,
    sleep: async () => {
      if (turn >= more) return state.stop();
      now += stepMs(turn);
      turn += 1;
    },
  };
  const state = new RunningState(moving);
  await expire({ db, clock: moving, wake: createWake(), log }, state);
}

test("an app that was away, stood still or had its clock moved ends no lease by that", async () => {
  const a = await daemon("a");
  const { id } = await run((await pipeline(1)).id);
  await claim(a);
  await send(a, id, 1, [started]);
  const stateOf = async () => (await findRun(db.read, id))?.state;
  // Away for an hour: the daemons could not renew.
  now += 3_600_000;
  await expiring(1, () => 5_000);
  expect(await stateOf()).toBe("running");
  // Its clock is moved ten minutes on, twice, and twenty back.
  const moves = [600_000, 600_000, -1_200_000];
  await expiring(3, (turn) => moves[turn] ?? 5_000);
  expect(await stateOf()).toBe("running");
  // A daemon that is silent while the app looks is silent.
  await expiring(startedLeaseMs / 5_000 + 2, () => 5_000);
  expect(await stateOf()).toBe("lost");
});

test("a clock that is set back while the app is at work makes nothing wait for it", async () => {
  const due = now + 500;
  const place = { repositoryId: 7, thread: 1, branch: null, express: false };
  await db.write(async (tx) => {
    const row = { guid: "waits", event: "ping", payload: "{}", state: "pending" as const };
    await tx.insert(deliveries).values({ ...row, ...place, receivedAt: now, dueAt: due });
    const reply = { kind: "nothing_to_cancel" as const };
    const wanted = { kind: "reply" as const, repository: "acme/app", issue: 1, reply };
    await requestOnce(tx, { workspace: 1, subject: "waits", wanted });
  });
  await expiring(2, (turn) => [5_000, -600_000][turn] ?? 0);
  const [delivery] = await db.read.select().from(deliveries);
  expect(delivery?.dueAt).toBe(now);
  expect(await nextDue(db.read, 1)).toBe(now);
});

test("as many daemons are woken as can use it, and one more where nobody came", async () => {
  const [a, b, c] = await Promise.all(
    ["a", "b", "c"].map((name) => daemon(name, { slots: 1, seenAt: now })),
  );
  await daemon("away", { slots: 1, seenAt: now - 120_000 });
  await daemon("elsewhere", { slots: 1, seenAt: now, repositories: ["other/*"] });
  await daemon("without agents", { slots: 1, seenAt: now, agents: ["codex"] });
  if (!a || !b || !c) throw new Error("not stored");
  type Offers = Awaited<ReturnType<typeof offersOf>>;
  const offers = async (before?: Offers, ms = 5_000): Promise<Offers> => {
    now += ms;
    return await offersOf(db.read, before?.offered ?? new Map(), now);
  };
  expect((await offers()).daemons.size).toBe(0);
  await run((await pipeline(1)).id, "hello");
  const first = await offers();
  expect(first.daemons.size).toBe(1);
  const second = await offers(first);
  // Asked again at once it wakes nobody: somebody is on the way.
  expect((await offers(second, 10)).daemons.size).toBe(0);
  expect(second.daemons.size).toBe(2);
  const fourth = await offers(await offers(second));
  expect([...fourth.daemons].toSorted()).toEqual(["a", "b", "c"]);
  // Another run is another daemon's.
  await run((await pipeline(2)).id, "hello");
  expect((await offers()).daemons.size).toBe(2);
  for (const index of [3, 4, 5, 6]) await run((await pipeline(index)).id, "hello");
  expect([...(await offers()).daemons].toSorted()).toEqual(["a", "b", "c"]);
  // Who has its slots full comes last.
  await claim(a);
  const next = await offers();
  for (const name of ["b", "c"]) expect(next.daemons).toContain(name);
});
