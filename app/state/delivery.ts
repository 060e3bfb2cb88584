import { and, asc, desc, eq, inArray, lt, lte, ne, or, sql } from "drizzle-orm";
import { alias } from "drizzle-orm/sqlite-core";
import type { Database, Reads, Tx } from "./database.ts";
import { givenUpForMs, notRefused, type Refusals } from "./refusal.ts";
import { deliveries, pipelines } from "./schema.ts";

/** One webhook of GitHub's, as it is stored until it is handled. */
export type Delivery = typeof deliveries.$inferSelect;
/** What a delivery tells of, which is its place in line; null: nothing of the kind. */
export type DeliveryPlace = Pick<Delivery, "repositoryId" | "thread" | "branch" | "express">;
/** A delivery that has just been verified; `at` in milliseconds since 1970. */
export type NewDelivery = DeliveryPlace & {
  guid: string;
  event: string;
  payload: string;
  at: number;
};

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
    const values: Record<string, string | number | null> = {};
    for (const [i, row] of rows.entries()) {
      for (const [name, value] of Object.entries({ ...row, express: Number(row.express) }))
        values[`${name}${i}`] = value;
    }
    await statement(values);
  };
}

function prepared(db: Database, count: number) {
  const rows = Array.from({ length: count }, (_, i) => ({
    guid: sql.placeholder(`guid${i}`),
    event: sql.placeholder(`event${i}`),
    payload: sql.placeholder(`payload${i}`),
    repositoryId: sql.placeholder(`repositoryId${i}`),
    thread: sql.placeholder(`thread${i}`),
    branch: sql.placeholder(`branch${i}`),
    express: sql`${sql.placeholder(`express${i}`)}`,
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
          ...notRefused,
          dueAt: sql`excluded.due_at`,
        },
        setWhere: eq(deliveries.state, "failed"),
      })
      .prepare(),
  );
}

/** A delivery that waits, without its payload. */
export type PendingDelivery = Pick<Delivery, "guid" | "express" | "dueAt" | "refusedSince"> & {
  /** Those of one lane are handled in the order they came. */
  lane: string;
};

const byPull = alias(pipelines, "by_pull");
const byBranch = alias(pipelines, "by_branch");
/** A pull request and a branch stand in the lane of their pipeline's issue. */
const lane = sql<string>`coalesce(${deliveries.repositoryId}, '') || '#' ||
  coalesce(${byPull.issue}, ${deliveries.thread}, ${byBranch.issue}, ${deliveries.branch}, '')`;

/** The most deliveries of one lane that are looked at. */
const ofLaneMax = 20;

/**
 * The first deliveries that wait, cancels before the rest, in the order they came, at most `limit`; and
 * failed ones due at `at` (milliseconds since 1970).
 */
export async function pendingDeliveries(
  db: Reads,
  at: number,
  limit: number,
): Promise<PendingDelivery[]> {
  const { guid, express, dueAt, refusedSince, receivedAt } = deliveries;
  const ranked = db
    .select({
      guid,
      express,
      dueAt,
      refusedSince,
      receivedAt,
      rowid: sql<number>`${deliveries}.rowid`.as("row_id"),
      lane: lane.as("lane"),
      // A long lane must not hide the others.
      rank: sql<number>`row_number() over (partition by ${lane}, ${express} order by ${receivedAt}, ${deliveries}.rowid)`.as(
        "rank",
      ),
    })
    .from(deliveries)
    .leftJoin(
      byPull,
      and(
        eq(byPull.repositoryId, deliveries.repositoryId),
        eq(byPull.pullNumber, deliveries.thread),
      ),
    )
    .leftJoin(
      byBranch,
      and(
        eq(byBranch.repositoryId, deliveries.repositoryId),
        eq(byBranch.branch, deliveries.branch),
      ),
    )
    .where(
      or(
        sql`${deliveries.state} = 'pending'`,
        sql`${deliveries.state} = 'failed' and ${dueAt} <= ${at} and ${receivedAt} > ${at - givenUpForMs}`,
      ),
    )
    .as("ranked");
  const rows = await db
    .select()
    .from(ranked)
    .where(lte(ranked.rank, ofLaneMax))
    .orderBy(desc(ranked.express), asc(ranked.receivedAt), asc(ranked.rowid))
    .limit(limit);
  // A pull request that two pipelines had comes twice.
  return [...new Map(rows.toReversed().map((row) => [row.guid, row])).values()].reverse();
}

/** A delivery with its payload; null: it is not here any more, or handled. */
export async function findDelivery(db: Reads, guid: string): Promise<Delivery | null> {
  const [row] = await db
    .select()
    .from(deliveries)
    .where(and(eq(deliveries.guid, guid), ne(deliveries.state, "handled")));
  return row ?? null;
}

/** Everything that waits is due at once: at a start, and after the clock was set back. */
export async function hastenDeliveries(tx: Tx) {
  await tx
    .update(deliveries)
    .set({ dueAt: tx.now })
    .where(and(ne(deliveries.state, "handled"), sql`${deliveries.dueAt} > ${tx.now}`));
}

/** These have had their effect; only their GUIDs are kept. */
export async function markHandled(tx: Tx, guids: string[]) {
  const handled = { state: "handled" as const, payload: "", error: null };
  await tx.update(deliveries).set(handled).where(inArray(deliveries.guid, guids));
}

/** A delivery's handling has failed: again at `dueAt`. `state` failed: what waits behind it goes on. */
export async function markDeliveryFailed(
  tx: Tx,
  { guid, attempts }: Pick<Delivery, "guid" | "attempts">,
  failure: { error: string; dueAt: number; state: "pending" | "failed"; counted: Refusals },
) {
  const { error, dueAt, state, counted } = failure;
  await tx
    .update(deliveries)
    .set({ ...counted, state, attempts: attempts + 1, error: error.slice(0, 500), dueAt })
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

/** Forgets up to `limit` deliveries that were handled longer ago than GitHub can redeliver them; gives how many. */
export async function forgetDeliveries(tx: Tx, limit: number): Promise<number> {
  const old = tx
    .select({ guid: deliveries.guid })
    .from(deliveries)
    .where(and(ne(deliveries.state, "pending"), lt(deliveries.receivedAt, tx.now - keptMs)))
    .limit(limit);
  const gone = await tx
    .delete(deliveries)
    .where(inArray(deliveries.guid, old))
    .returning({ guid: deliveries.guid });
  return gone.length;
}
