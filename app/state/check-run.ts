import { and, eq } from "drizzle-orm";
import type { Reads, Tx } from "./database.ts";
import { checkRuns } from "./schema.ts";

/** A check run on GitHub, one for each run and commit. */
type CheckRun = typeof checkRuns.$inferSelect;

const one = (runId: string, sha: string) => and(eq(checkRuns.runId, runId), eq(checkRuns.sha, sha));

/** The check runs of a run, one for each commit its check has been on. */
export async function checkRunsOf(db: Reads, runId: string): Promise<CheckRun[]> {
  return await db.select().from(checkRuns).where(eq(checkRuns.runId, runId));
}

/** The check run of a run on one commit; null: none was ever tried. */
export async function findCheckRun(
  db: Reads,
  runId: string,
  sha: string,
): Promise<CheckRun | null> {
  const [row] = await db.select().from(checkRuns).where(one(runId, sha));
  return row ?? null;
}

/** Before it is created: from here on, a retry looks for it by its external id first. */
export async function markCheckTried(tx: Tx, runId: string, sha: string) {
  await tx.insert(checkRuns).values({ runId, sha, tried: true }).onConflictDoNothing();
}

/** What was written, and under which id. */
export async function recordCheckRun(
  tx: Tx,
  runId: string,
  sha: string,
  changes: Pick<CheckRun, "remoteId" | "completed" | "written">,
) {
  await tx.update(checkRuns).set(changes).where(one(runId, sha));
}

/** The run goes on after all: a completed check run cannot be reopened, so another takes its place. */
export async function renewCheckRuns(tx: Tx, runId: string) {
  await tx.delete(checkRuns).where(and(eq(checkRuns.runId, runId), eq(checkRuns.completed, true)));
}
