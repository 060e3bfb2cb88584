import { and, count, desc, eq, gt, gte, inArray, lt, sql } from "drizzle-orm";
import type { Reads, Tx } from "./database.ts";
import { intents } from "./schema.ts";

/** What somebody asked for, as it is stored; `key` makes its effect happen once. */
export type Intent = typeof intents.$inferSelect;

/** Whether the intent with this key has had its effect. */
export async function isKnownIntent(tx: Reads, key: string): Promise<boolean> {
  const rows = await tx.select({ key: intents.key }).from(intents).where(eq(intents.key, key));
  return rows.length > 0;
}

/** Stores an intent at the transaction's time. */
export async function addIntent(tx: Tx, intent: Omit<Intent, "at">) {
  await tx.insert(intents).values({ ...intent, at: tx.now });
}

/** The intents of one person at one issue with this outcome, since `since` (milliseconds since 1970). */
export async function intentsSince(
  tx: Reads,
  by: Pick<Intent, "repository" | "sender" | "outcome"> & { issue: number },
  since: number,
): Promise<Intent[]> {
  return await tx
    .select()
    .from(intents)
    .where(
      and(
        eq(intents.repository, by.repository),
        eq(intents.issue, by.issue),
        eq(intents.sender, by.sender),
        eq(intents.outcome, by.outcome),
        gt(intents.at, since),
      ),
    );
}

/** When an intent was said; null where GitHub does not say. */
type SaidIntent = Pick<Intent, "saidAt" | "commentId">;

/**
 * Whether an intent was said after something else. Within one second the comments' ids decide, and where
 * there are none it was.
 */
export function isSaidAfter(
  intent: SaidIntent,
  other: { at: number; commentId: number | null },
): boolean {
  if (intent.saidAt === null) return false;
  if (intent.saidAt !== other.at || intent.commentId === null || other.commentId === null)
    return intent.saidAt >= other.at;
  return intent.commentId > other.commentId;
}

/** The cancels that were not refused, said in one of these threads at `at` (milliseconds since 1970) or after. */
export async function cancelsSince(
  tx: Reads,
  { repository, threads }: { repository: string; threads: number[] },
  at: number,
): Promise<SaidIntent[]> {
  return await tx
    .select({ saidAt: intents.saidAt, commentId: intents.commentId })
    .from(intents)
    .where(
      and(
        eq(intents.repository, repository),
        inArray(intents.issue, threads),
        gte(intents.saidAt, at),
        inArray(intents.outcome, ["cancel", "answered"]),
        sql`json_extract(${intents.request}, '$.command') = 'cancel'`,
        sql`coalesce(json_extract(${intents.reply}, '$.kind'), '') <> 'misunderstood'`,
      ),
    );
}

/** When a run was asked for; null: by nobody, or GitHub does not say. */
export async function saidOfRun(
  tx: Reads,
  runId: string,
): Promise<{ at: number; commentId: number | null } | null> {
  const [row] = await tx
    .select({ saidAt: intents.saidAt, commentId: intents.commentId })
    .from(intents)
    .where(and(eq(intents.runId, runId), eq(intents.outcome, "run")))
    .orderBy(desc(intents.at))
    .limit(1);
  return row?.saidAt ? { at: row.saidAt, commentId: row.commentId } : null;
}

/** How many intents have a key that begins like this. */
export async function countIntents(db: Reads, prefix: string): Promise<number> {
  const [row] = await db
    .select({ n: count() })
    .from(intents)
    .where(
      sql`substr(${intents.key}, 1, ${prefix.length}) = ${prefix} and ${intents.key} >= ${prefix}`,
    );
  return row?.n ?? 0;
}

/** Forgets up to `limit` intents of before a time (milliseconds since 1970); gives how many. */
export async function forgetIntents(tx: Tx, before: number, limit: number): Promise<number> {
  const old = tx
    .select({ key: intents.key })
    .from(intents)
    .where(lt(intents.at, before))
    .limit(limit);
  const gone = await tx
    .delete(intents)
    .where(inArray(intents.key, old))
    .returning({ key: intents.key });
  return gone.length;
}
