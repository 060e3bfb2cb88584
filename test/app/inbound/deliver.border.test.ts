import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, expect, test } from "vitest";
import { GitHubError } from "../../../app/github/error.ts";
import { deliver } from "../../../app/inbound/deliver.ts";
import { createInbox } from "../../../app/inbound/inbox.ts";
import { placeOfDelivery } from "../../../app/inbound/place.ts";
import { type Clock, systemClock } from "../../../app/protocol/clock.ts";
import { RunningState } from "../../../app/protocol/running-state.ts";
import { type Database, openDatabase } from "../../../app/state/database.ts";
import { randomIds } from "../../../app/state/identity.ts";
import { usualPatienceMs } from "../../../app/state/refusal.ts";
import { deliveries, reports } from "../../../app/state/schema.ts";
import { createWake } from "../../../app/state/wake.ts";

// Deliveries on their way from the inbox to the handlers: their order, and what keeps them from being handled.

let folder = "";
let db: Database;
let state: RunningState;
let now = 0;
const wake = createWake();
/** Time goes as fast as it is slept. */
const clock: Clock = {
  ...systemClock,
  now: () => now,
  sleep: async (ms, signal) => {
    await new Promise((resolve) => setImmediate(resolve));
    if (!signal.aborted) now += Math.min(ms, 60_000);
  },
};
/** What the handlers were given, by GUID, in the order in which they began. */
let begun: string[] = [];
let answers: (guid: string, times: number) => Promise<void> | void = () => {};
let loop: Promise<void>;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "trimo-deliver-"));
  now = 1_800_000_000_000;
  begun = [];
  const url = `file:${join(folder, "app.db")}`;
  db = await openDatabase({ url, authToken: undefined, clock: systemClock, ids: randomIds, wake });
  state = new RunningState(clock);
});
afterEach(async () => {
  state.stop();
  await loop;
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

function start() {
  const github = {
    receive: async ({ guid }: { guid: string }) => {
      begun.push(guid);
      await answers(guid, begun.filter((one) => one === guid).length);
    },
  };
  const log = pino({ level: "silent" });
  const inbox = createInbox(db, systemClock, wake);
  loop = deliver({ db, inbox, github, clock, wake, log, patienceMs: usualPatienceMs }, state);
}

async function store(guid: string, event: string, payload: object) {
  const body = JSON.stringify({ installation: { id: 1 }, repository, sender: ana, ...payload });
  const place = placeOfDelivery(body);
  const row = {
    guid,
    event,
    payload: body,
    state: "pending" as const,
    receivedAt: now,
    dueAt: now,
  };
  await db.write((tx) => tx.insert(deliveries).values({ ...row, ...place }));
}
const repository = { id: 7, full_name: "acme/app" };
const ana = { login: "ana", type: "User" };
const comment = (guid: string, number: number, body: string) =>
  store(guid, "issue_comment", { action: "created", issue: { number }, comment: { body } });

/** As long as a busy machine may take. */
const poll = <T>(look: () => Promise<T>) => expect.poll(look, { timeout: 60_000 });
const stateOf = async (guid: string) =>
  (await db.read.select().from(deliveries)).find((row) => row.guid === guid);
const handled = (guid: string) => poll(async () => (await stateOf(guid))?.state).toBe("handled");

test("what waits in a thread keeps what came after it there waiting, and no other thread", async () => {
  await comment("first", 1, "/trimo run");
  await comment("second", 1, "/trimo status");
  await comment("other", 2, "/trimo run");
  answers = (guid, times) => {
    if (guid === "first" && times < 4) throw new GitHubError(502, "bad gateway", 0);
  };
  start();
  await handled("second");
  expect(begun.filter((guid) => guid !== "other")).toEqual([...Array(4).fill("first"), "second"]);
  expect(begun.indexOf("other")).toBe(1);
});

test("a cancel goes before five hundred others, in its own thread and in all", async () => {
  await db.write(async (tx) => {
    for (let n = 0; n < 500; n++) {
      const place = { repositoryId: 7, thread: n % 5 === 0 ? 1 : n, branch: null };
      const row = { guid: `d${n}`, event: "issue_comment", payload: "{}", ...place };
      await tx
        .insert(deliveries)
        .values({ ...row, state: "pending", receivedAt: now + n, dueAt: now });
    }
  });
  now += 1_000;
  await comment("cancel", 1, "Stop that.\n\n/trimo cancel");
  start();
  await handled("cancel");
  // Behind those that go side by side at most.
  expect(begun.indexOf("cancel")).toBeLessThanOrEqual(8);
  await handled("d499");
});

test("each of many is handled once, and a thread with thousands hides no other", async () => {
  await db.write(async (tx) => {
    for (let n = 0; n < 2_500; n++) {
      const place = { repositoryId: 7, thread: 1, branch: null };
      const row = { guid: `long${n}`, event: "issue_comment", payload: "{}", ...place };
      await tx
        .insert(deliveries)
        .values({ ...row, state: "pending", receivedAt: now + n, dueAt: now });
    }
  });
  now += 10_000;
  for (let n = 2; n < 60; n++) await comment(`other${n}`, n, "/trimo status");
  answers = (guid) => {
    // The long thread waits for GitHub, the others go on.
    if (guid.startsWith("long")) throw new GitHubError(503, "away", 0);
  };
  start();
  await handled("other59");
  const others = begun.filter((guid) => guid.startsWith("other"));
  expect(others).toHaveLength(58);
  expect(new Set(others).size).toBe(58);
});

test("a thread whose handling never ends holds up no other", async () => {
  for (const guid of ["stuck", "behind"]) await comment(guid, 1, "/trimo status");
  for (let n = 2; n < 12; n++) await comment(`free${n}`, n, "/trimo status");
  let free = () => {};
  answers = (guid) => (guid === "stuck" ? new Promise((resolve) => (free = resolve)) : undefined);
  start();
  await handled("free11");
  expect(begun).not.toContain("behind");
  free();
  await handled("behind");
});

test.each([
  ["two absences and a refusal", [502, 502, 404]],
  ["five refusals within seconds", [401, 401, 401, 401, 401]],
  ["four absences and a refusal", [502, 502, 502, 502, 401]],
])("%s are waited out", async (_what, statuses) => {
  await comment("asked", 1, "/trimo run");
  answers = (_guid, times) => {
    const status = statuses[times - 1];
    if (status) throw new GitHubError(status, "no", 0);
  };
  start();
  await handled("asked");
  expect(begun).toHaveLength(statuses.length + 1);
});

test("a refusal is believed after half an hour: the thread is told, others go on, and it is tried again hourly", async () => {
  await comment("refused", 1, "/trimo run");
  await comment("behind", 1, "/trimo status");
  const began = now;
  let refuse = true;
  answers = (guid) => {
    if (guid === "refused" && refuse) throw new GitHubError(403, "not accessible", 0);
  };
  start();
  await poll(async () => (await stateOf("refused"))?.state).toBe("failed");
  expect(now - began).toBeGreaterThanOrEqual(usualPatienceMs);
  expect((await stateOf("refused"))?.refusals).toBeGreaterThanOrEqual(12);
  await handled("behind");
  const [told] = await db.read.select().from(reports);
  expect(told).toMatchObject({
    kind: "reply",
    subject: "undone:refused",
    data: { issue: 1, reply: { kind: "undone", why: "not accessible" } },
  });
  refuse = false;
  await handled("refused");
});

test("a fault of Trimo's own is given up after five tries, and said; a full database is only waited for", async () => {
  await comment("faulty", 1, "/trimo run");
  await comment("full", 2, "/trimo run");
  answers = (guid, times) => {
    if (guid === "faulty" && times <= 5) throw new TypeError("undefined is not a function");
    const full = Object.assign(new Error("disk full"), { code: "SQLITE_FULL" });
    if (guid === "full" && times < 9) throw full;
  };
  start();
  await handled("full");
  await poll(async () => (await stateOf("faulty"))?.attempts).toBeGreaterThanOrEqual(5);
  const told = await db.read.select().from(reports);
  expect(told.map(({ data }) => data?.reply)).toEqual([{ kind: "undone", why: null }]);
  // An hour later it may have been mended.
  await handled("faulty");
});
