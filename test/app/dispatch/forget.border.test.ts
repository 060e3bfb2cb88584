import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { forgetOld } from "../../../app/dispatch/forget.ts";
import type { Clock } from "../../../app/protocol/clock.ts";
import { RunningState } from "../../../app/protocol/running-state.ts";
import type { Database, Tx } from "../../../app/state/database.ts";
import { deliveries, events, intents, pipelines, runs } from "../../../app/state/schema.ts";
import { openStore } from "../../support/store.ts";

// What is old goes from a real database, and what counts stays.

const day = 24 * 3_600_000;
const now = 1_000 * day;
const folder = mkdtempSync(join(tmpdir(), "trimo-forget-"));
const clock = { now: () => now, chance: () => 0, sleep: async () => {} } as unknown as Clock;
const parts = () => ({ db, clock, log: pino({ level: "silent" }), retentionMs: 90 * day });
let db: Database;
beforeAll(async () => {
  db = await openStore(join(folder, "app.db"), clock);
});
afterAll(() => {
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

async function addPipeline(tx: Tx, id: string) {
  const about = { workspace: 1, repository: "acme/app", repositoryId: 1, issue: 1, title: "x" };
  const branch = { branch: id, baseBranch: "main", pullRequest: "draft", state: "open" };
  const asked = { priority: 0, createdAt: 0, requestedBy: "ana", openedAt: 0 };
  await tx.insert(pipelines).values({ id, ...about, ...branch, ...asked } as never);
}
async function addRun(id: string, endedAt: number | null) {
  const facts = ["queued", "claimed", "ended"].map((type, i) => ({ attempt: 0, seq: i, type }));
  const long = Array.from({ length: 700 }, (_, i) => ({ attempt: 1, seq: i, type: "tool" }));
  const kept = ["commit", "pushed", "receipt", "message", "usage", "usage", "notice", "stage"];
  const rest = kept.map((type, i) => ({ attempt: 1, seq: 700 + i, type }));
  await db.write(async (tx) => {
    await addPipeline(tx, id);
    await tx.insert(runs).values({
      id,
      pipelineId: id,
      number: 1,
      kind: "run",
      state: endedAt === null ? "running" : "succeeded",
      workspace: 1,
      repository: "acme/app",
      thread: 1,
      prompt: "x",
      requestedBy: "ana",
      origin: { by: "label", label: "trimo" },
      createdAt: 0,
      askedAt: 0,
      endedAt,
    } as never);
    for (const fact of [...facts, ...long, ...rest])
      await tx.insert(events).values({ runId: id, at: 0, data: {}, ...fact });
  });
}
const typesOf = async (run: string) =>
  (await db.read.select().from(events).orderBy(events.id))
    .filter(({ runId }) => runId === run)
    .map(({ type }) => type);

test("details of runs go 90 days after their end; what came of them stays, and what goes on is whole", async () => {
  const moments: [string, number | null][] = [
    ["old", now - 91 * day],
    ["fresh", now - 89 * day],
    ["going on", null],
    // More in one moment than are looked for at once.
    ...Array.from({ length: 60 }, (_, i): [string, number] => [`same ${i}`, now - 100 * day]),
  ];
  for (const [id, endedAt] of moments.slice(0, 3)) await addRun(id, endedAt);
  await db.write(async (tx) => {
    for (const [id, endedAt] of moments.slice(3)) {
      await addPipeline(tx, id);
      const about = { workspace: 1, repository: "acme/app", thread: 1, prompt: "x" };
      const run = { id, pipelineId: id, number: 1, kind: "run", state: "failed", ...about };
      const asked = {
        requestedBy: "ana",
        origin: { by: "label", label: "trimo" },
        createdAt: 0,
        askedAt: 0,
      };
      await tx.insert(runs).values({ ...run, ...asked, endedAt } as never);
      await tx
        .insert(events)
        .values({ runId: id, attempt: 1, seq: 1, at: 0, type: "notice", data: {} });
    }
  });
  await forgetOld(parts(), new RunningState(clock));
  expect(await typesOf("old")).toEqual([
    ...["queued", "claimed", "ended", "commit", "pushed", "receipt", "message", "usage"],
  ]);
  expect(await typesOf("fresh")).toHaveLength(711);
  expect(await typesOf("going on")).toHaveLength(711);
  const left = await db.read.select().from(events);
  expect(left.filter(({ runId }) => runId.startsWith("same"))).toEqual([]);
  // Nothing is looked at twice, and nothing more goes.
  await forgetOld(parts(), new RunningState(clock));
  expect(await typesOf("old")).toHaveLength(8);
});

test("so do intents and handled deliveries, in steps; a pending delivery never", async () => {
  const intent = { repository: "a/b", issue: 1, sender: "ana", outcome: "run", request: {} };
  await db.write(async (tx) => {
    for (let i = 0; i < 1_201; i++) {
      const at = now - (i === 0 ? 89 : 91) * day;
      await tx.insert(intents).values({ key: `k${i}`, kind: "comment", ...intent, at } as never);
    }
    for (const [guid, state, days] of [
      ["handled", "handled", 8],
      ["failed", "failed", 8],
      ["pending", "pending", 200],
      ["new", "handled", 6],
    ] as const) {
      const receivedAt = now - days * day;
      const delivery = { guid, event: "issues", payload: "", state, dueAt: 0, receivedAt };
      await tx.insert(deliveries).values(delivery);
    }
  });
  await forgetOld(parts(), new RunningState(clock));
  expect((await db.read.select().from(intents)).map(({ key }) => key)).toEqual(["k0"]);
  const guids = (await db.read.select().from(deliveries)).map(({ guid }) => guid);
  expect(guids.toSorted()).toEqual(["new", "pending"]);
});
