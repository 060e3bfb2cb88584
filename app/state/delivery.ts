import { and, asc, eq, inArray, lt, lte, min, ne, sql } from "drizzle-orm";
import type { Database, Reads, Tx } from "./database.ts";
import { deliveries } from "./schema.ts";

/** One webhook of GitHub's, as it is stored until it is handled. */
export type Delivery = typeof deliveries.$inferSelect;
/** A delivery that has just been verified; `at` in milliseconds since 1970. */
export type NewDelivery = { guid: string; event: string; payload: string; at: number };

/** Handled deliveries are remembered longer than GitHub can redeliver them (3 days). */
const keptMs = 7 * 24 * 3_600_000;

/**
 * What stores deliveries, each GUID once; one that had failed for good is taken up again when GitHub
 * sends it again. There is one statement for each count of rows: to make it takes as long as to run it.
 */
export function createDeliveryStore(db: Database): (rows: NewDelivery[]) => Promise<void> {
  const statements = new Map<number, ReturnType<Database["statement"]>>();
  return async (rows) => {
    const statement = statements.get(rows.length) ?? prepared(db, rows.length);
    statements.set(rows.length, statement);
    const values: Record<string, string | number> = {};
    for (const [i, { guid, event, payload, at }] of rows.entries()) {
      values[`guid${i}`] = guid;
      values[`event${i}`] = event;
      values[`payload${i}`] = payload;
      values[`at${i}`] = at;
    }
    await statement(values);
  };
}

function prepared(db: Database, count: number) {
  const rows = Array.from({ length: count }, (_, i) => ({
    guid: sql.placeholder(`guid${i}`),
    event: sql.placeholder(`event${i}`),
    payload: sql.placeholder(`payload${i}`),
    state: "pending" as const,
    receivedAt: sql.placeholder(`at${i}`),
    dueAt: sql.placeholder(`at${i}`),
  }));
  return db.statement((writer) =>
    writer
      .insert(deliveries)
      .values(rows)
      .onConflictDoUpdate({
        target: deliveries.guid,
        set: {
          state: "pending",
          payload: sql`excluded.payload`,
          attempts: 0,
          dueAt: sql`excluded.due_at`,
        },
        setWhere: eq(deliveries.state, "failed"),
      })
      .prepare(),
  );
}

/** The pending deliveries that are due at `at`, in the order they came, at most `limit`. */
export async function dueDeliveries(db: Reads, at: number, limit: number): Promise<Delivery[]> {
  return await db
    .select()
    .from(deliveries)
    .where(and(sql`state = 'pending'`, lte(deliveries.dueAt, at)))
    .orderBy(asc(deliveries.receivedAt))
    .limit(limit);
}

/** When the next pending delivery is due, in milliseconds since 1970; null: none is pending. */
export async function nextDeliveryDue(db: Reads): Promise<number | null> {
  const [row] = await db
    .select({ dueAt: min(deliveries.dueAt) })
    .from(deliveries)
    .where(sql`state = 'pending'`);
  return row?.dueAt ?? null;
}

/** These have had their effect; only their GUIDs are kept. */
export async function markHandled(tx: Tx, guids: string[]) {
  const handled = { state: "handled" as const, payload: "", error: null };
  await tx.update(deliveries).set(handled).where(inArray(deliveries.guid, guids));
}

/** A delivery's handling has failed: again at `dueAt`, or, when `final`, never. */
export async function markDeliveryFailed(
  tx: Tx,
  { guid, attempts }: Delivery,
  failure: { error: string; dueAt: number; final: boolean },
) {
  await tx
    .update(deliveries)
    .set({
      state: failure.final ? "failed" : "pending",
      attempts: attempts + 1,
      error: failure.error.slice(0, 500),
      dueAt: failure.dueAt,
    })
    .where(eq(deliveries.guid, guid));
}

/** Which of these GUIDs are stored here. */
export async function knownDeliveries(db: Reads, guids: string[]): Promise<Set<string>> {
  const known = new Set<string>();
  for (const guid of guids) {
    const rows = await db
      .select({ guid: deliveries.guid })
      .from(deliveries)
      .where(eq(deliveries.guid, guid));
    if (rows.length > 0) known.add(guid);
  }
  return known;
}

/** Forgets what was handled longer ago than GitHub can redeliver it. */
export async function forgetOldDeliveries(tx: Tx) {
  await tx
    .delete(deliveries)
    .where(and(ne(deliveries.state, "pending"), lt(deliveries.receivedAt, tx.now - keptMs)));
}
