import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import { type Database, openDatabase } from "../../../app/state/database.ts";
import { randomIds } from "../../../app/state/identity.ts";
import { marks } from "../../../app/state/schema.ts";
import { createWake } from "../../../app/state/wake.ts";

// Writes that come at once, on a real libsql file: one commit for all that wait, and each by itself.

let folder: string;
let db: Database;
const woken: string[] = [];
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "trimo-db-"));
  const wake = createWake();
  woken.length = 0;
  wake.on("run", (run) => woken.push(run));
  const url = `file:${join(folder, "app.db")}`;
  db = await openDatabase({ url, authToken: undefined, clock: systemClock, ids: randomIds, wake });
});
afterEach(() => {
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

const mark = (name: string, fails = false) =>
  db.write(async (tx) => {
    await tx.insert(marks).values({ name, at: 1 });
    tx.wake("run", name);
    if (fails) throw new Error(`${name} is refused`);
    return name;
  });
const stored = async () => (await db.read.select().from(marks)).map(({ name }) => name).toSorted();

test("each gets its own answer, in the order they came; who fails takes nothing from the others", async () => {
  const names = Array.from({ length: 100 }, (_, i) => `m${String(i).padStart(2, "0")}`);
  const ends = await Promise.allSettled(names.map((name, i) => mark(name, i % 10 === 3)));
  const failed = names.filter((_, i) => i % 10 === 3);
  const well = names.filter((_, i) => i % 10 !== 3);
  for (const [i, end] of ends.entries())
    expect(end).toMatchObject(
      i % 10 === 3
        ? { status: "rejected", reason: { message: `${names[i]} is refused` } }
        : { status: "fulfilled", value: names[i] },
    );
  expect(await stored()).toEqual(well);
  expect(woken).toEqual(well);
  expect(woken.some((name) => failed.includes(name))).toBe(false);
});

test("one that breaks a rule of the table fails alone, and its error tells no value", async () => {
  await mark("there");
  const all = [mark("before"), mark("there"), mark("after")];
  const [before, twice, after] = await Promise.allSettled(all);
  expect([before?.status, twice?.status, after?.status]).toEqual([
    "fulfilled",
    "rejected",
    "fulfilled",
  ]);
  expect(String((twice as PromiseRejectedResult).reason)).toContain("SQLITE_CONSTRAINT");
  expect(await stored()).toEqual(["after", "before", "there"]);
});

test("what is written inside is seen by those after it in the same commit", async () => {
  const seen: number[] = [];
  const write = (name: string) =>
    db.write(async (tx) => {
      seen.push((await tx.select().from(marks)).length);
      await tx.insert(marks).values({ name, at: 1 });
    });
  await Promise.all(["a", "b", "c", "d"].map(write));
  expect(seen).toEqual([0, 1, 2, 3]);
});

test("a full disk fails all that would have gone into one commit, each with why, and the next write goes well", async () => {
  await mark("first");
  const { createClient } = await import("@libsql/client/sqlite3");
  const pages = createClient({ url: `file:${join(folder, "app.db")}` });
  const { rows } = await pages.execute("PRAGMA page_count");
  pages.close();
  const most = Number(rows[0]?.page_count) + 2;
  await db.write(async (tx) => void (await tx.run(`PRAGMA max_page_count = ${most}`)));
  const large = (name: string) =>
    db.write(async (tx) => {
      for (let i = 0; i < 200; i++)
        await tx.insert(marks).values({ name: `${name}${i}${"x".repeat(3_000)}`, at: 1 });
    });
  const ends = await Promise.allSettled([mark("small"), large("a"), large("b"), mark("last")]);
  const reasons = ends.flatMap((end) => (end.status === "rejected" ? [String(end.reason)] : []));
  // The first had its turn before the others came.
  expect(reasons.length).toBeGreaterThanOrEqual(3);
  for (const reason of reasons) expect(reason).toMatch(/database or disk is full/);
  expect(db.problem()).toMatch(/database or disk is full/);
  await db.write(async (tx) => void (await tx.run("PRAGMA max_page_count = 1000000")));
  await mark("again");
  expect(await stored()).toContain("again");
  expect(db.problem()).toBeNull();
});

test("a statement that is wrong fails alone, though the database calls it its own error", async () => {
  const wrong = db.write(async (tx) => void (await tx.run("select nothing from nowhere")));
  const ends = await Promise.allSettled([mark("first"), mark("before"), wrong, mark("after")]);
  expect(ends.map(({ status }) => status)).toEqual([
    "fulfilled",
    "fulfilled",
    "rejected",
    "fulfilled",
  ]);
  expect(await stored()).toEqual(["after", "before", "first"]);
});
