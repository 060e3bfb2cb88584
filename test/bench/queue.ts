import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canClaim } from "../../app/dispatch/claim.ts";
import { systemClock } from "../../app/protocol/clock.ts";
import type { Daemon } from "../../app/state/daemon.ts";
import type { Database } from "../../app/state/database.ts";
import { randomIds } from "../../app/state/identity.ts";
import { setMark } from "../../app/state/mark.ts";
import { open, recordBase, recordBranch } from "../../app/state/pipeline.ts";
import { enqueue } from "../../app/state/run.ts";
import { openStore } from "../support/store.ts";

// The queue under load, on a real libsql file: a claim in vain over so many queued runs of 16 KB each, which a
// machine asks that serves none of them; and writes of one row a second, one after another, which is the peer,
// and 64 at once, which share their commits.

const sizes = [0, 100, 1_000];
const words = "x".repeat(16_000);
const writes = 256;
const atOnce = 64;
const median = (all: number[]) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)] ?? 0;

export async function benchQueue(rounds: number) {
  const folder = mkdtempSync(join(tmpdir(), "trimo-bench-"));
  const db = await openStore(join(folder, "app.db"));
  try {
    const claims: { queued: number; ms: number }[] = [];
    let queued = 0;
    for (const size of sizes) {
      for (; queued < size; queued++) await addRun(db, queued);
      claims.push({ queued: size, ms: median(await repeat(rounds * 3, () => claimInVain(db))) });
    }
    const single = await perSecond(rounds, async () => {
      for (let i = 0; i < writes; i++) await write(db, i);
    });
    const grouped = await perSecond(rounds, async () => {
      for (let i = 0; i < writes; i += atOnce)
        await Promise.all(Array.from({ length: atOnce }, (_, j) => write(db, i + j)));
    });
    console.table(
      claims.map(({ queued, ms }) => ({
        "queued runs": queued,
        "claim in vain (ms)": ms.toFixed(2),
      })),
    );
    console.table([
      { writes: "one after another", "a second": single.toFixed(0), ratio: "1.0" },
      {
        writes: `${atOnce} at once`,
        "a second": grouped.toFixed(0),
        ratio: (grouped / single).toFixed(1),
      },
    ]);
    process.stdout.write(`${JSON.stringify({ bench: "queue", claims, single, grouped })}\n`);
  } finally {
    db.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

async function addRun(db: Database, index: number) {
  await db.write(async (tx) => {
    const about = { workspace: 1, repository: "acme/app", repositoryId: 1 };
    const { id } = await open(
      tx,
      { ...about, issue: index + 1, title: `Issue ${index}`, baseBranch: "main" } as never,
      {},
    );
    await recordBase(tx, id, "a".repeat(40));
    await recordBranch(tx, id, { branch: `trimo/${index}`, openingSha: null, headSha: null });
    const asked = { requestedBy: "ana", origin: { by: "label" as const, label: "trimo" } };
    const run = { pipelineId: id, workspace: 1, repository: "acme/app", thread: 1, agent: null };
    await enqueue(tx, { ...run, ...asked, prompt: words, composed: words });
  });
}

async function claimInVain(db: Database) {
  const daemon = { id: "d", name: "d", slots: 1, repositories: ["other/*"], agents: ["a"] };
  const asked = { claimKey: randomIds.next(), now: systemClock.now() };
  if (await canClaim(db.read, daemon as unknown as Daemon, asked))
    throw new Error("it was not in vain");
}

const write = async (db: Database, at: number) =>
  await db.write((tx) => setMark(tx, "deliveries", at));

async function repeat(rounds: number, work: () => Promise<void>): Promise<number[]> {
  const took: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const began = performance.now();
    await work();
    took.push(performance.now() - began);
  }
  return took;
}

const perSecond = async (rounds: number, work: () => Promise<void>): Promise<number> =>
  (writes * 1_000) / median(await repeat(rounds, work));
