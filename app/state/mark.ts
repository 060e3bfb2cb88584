import { eq } from "drizzle-orm";
import type { Reads, Tx } from "./database.ts";
import { marks } from "./schema.ts";

/**
 * When this app's database was made, up to when GitHub's deliveries are known to be here, and up to which end the
 * details of runs were forgotten.
 */
type MarkName = "born" | "deliveries" | "forgotten";

/** A mark, in milliseconds since 1970; null: it was never set. */
export async function markOf(db: Reads, name: MarkName): Promise<number | null> {
  const [row] = await db.select().from(marks).where(eq(marks.name, name));
  return row?.at ?? null;
}

/** Sets a mark, in milliseconds since 1970. */
export async function setMark(tx: Tx, name: MarkName, at: number) {
  await tx
    .insert(marks)
    .values({ name, at })
    .onConflictDoUpdate({ target: marks.name, set: { at } });
}
