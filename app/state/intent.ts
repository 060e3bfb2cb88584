import { and, eq, gt } from "drizzle-orm";
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
