import { and, asc, desc, eq, gt, max } from "drizzle-orm";
import type { Event } from "../protocol/wire.ts";
import type { Database, Tx } from "./database.ts";
import { events } from "./schema.ts";

/** The app's own facts about a run; a daemon's are in protocol/wire.ts. */
export type OwnFact =
  | { type: "queued"; by: string; trigger: string }
  | { type: "claimed"; daemon: string; attempt: number }
  | { type: "requeued"; why: string }
  | { type: "composed"; notes: string[] }
  | { type: "cancel_requested"; by: string }
  | { type: "ended"; state: string; why: string };

export type LoggedEvent = typeof events.$inferSelect;

/** Appends a fact of the app's own to the run's log. */
export async function logOwn(tx: Tx, runId: string, at: number, fact: OwnFact) {
  const { type, ...data } = fact;
  const [last] = await tx
    .select({ seq: max(events.seq) })
    .from(events)
    .where(and(eq(events.runId, runId), eq(events.attempt, 0)));
  await tx.insert(events).values({ runId, attempt: 0, seq: (last?.seq ?? 0) + 1, at, type, data });
}

/** Appends a daemon's facts; the caller has checked that their numbers follow on. */
export async function logDaemon(tx: Tx, runId: string, attempt: number, facts: Event[]) {
  const rows = facts.map(({ seq, at, type, ...data }) => ({ runId, attempt, seq, at, type, data }));
  await tx.insert(events).values(rows);
}

/** A run's newest events, oldest first, at most `limit`. */
export async function newestEvents(
  db: Database,
  runId: string,
  limit: number,
): Promise<LoggedEvent[]> {
  const rows = await db.read
    .select()
    .from(events)
    .where(eq(events.runId, runId))
    .orderBy(desc(events.id))
    .limit(limit);
  return rows.reverse();
}

/** A run's events after `afterId`, oldest first, at most `limit`. */
export async function eventsAfter(
  db: Database,
  runId: string,
  afterId: number,
  limit: number,
): Promise<LoggedEvent[]> {
  return await db.read
    .select()
    .from(events)
    .where(and(eq(events.runId, runId), gt(events.id, afterId)))
    .orderBy(asc(events.id))
    .limit(limit);
}
