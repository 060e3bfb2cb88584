import { and, asc, count, eq, gt, max } from "drizzle-orm";
import { type Tell, tellMax } from "../protocol/wire.ts";
import type { Tx } from "./database.ts";
import type { Run } from "./run.ts";
import { tells } from "./schema.ts";

/** Of one run; a daemon is given as many in one answer as the wire allows. */
const tellsMax = 100;
const atOnceMax = 20;

/** Keeps what somebody says to a run that is under way; false when it has been told enough. */
export async function addTell(
  tx: Tx,
  at: number,
  run: Run,
  by: string,
  text: string,
): Promise<boolean> {
  const [known] = await tx
    .select({ last: max(tells.id), number: count() })
    .from(tells)
    .where(eq(tells.runId, run.id));
  if ((known?.number ?? 0) >= tellsMax) return false;
  const id = (known?.last ?? 0) + 1;
  const row = { runId: run.id, id, by: by.slice(0, 100), text: text.slice(0, tellMax), at };
  await tx.insert(tells).values(row);
  return true;
}

/** What a daemon has not taken over yet, in order. */
export async function tellsAfter(
  tx: Pick<Tx, "select">,
  runId: string,
  after: number,
): Promise<Tell[]> {
  return await tx
    .select({ id: tells.id, by: tells.by, text: tells.text })
    .from(tells)
    .where(and(eq(tells.runId, runId), gt(tells.id, after)))
    .orderBy(asc(tells.id))
    .limit(atOnceMax);
}
