import { and, asc, desc, eq, gt, inArray, max, ne, notInArray } from "drizzle-orm";
import { z } from "zod";
import { Event, type Fact } from "../protocol/event.ts";
import { FailureCode } from "../protocol/failure.ts";
import { Cause } from "./cause.ts";
import type { Reads, Tx } from "./database.ts";
import { Origin } from "./origin.ts";
import { events, runStates } from "./schema.ts";

/** The app's own facts about a run; a daemon's are in protocol/event.ts. */
const OwnFact = z.discriminatedUnion("type", [
  z.object({ type: z.literal("queued"), by: z.string(), origin: Origin }),
  z.object({ type: z.literal("claimed"), daemon: z.string(), attempt: z.number() }),
  /** Back in the queue: its daemon declined it, or was silent before it had started. */
  z.object({
    type: z.literal("requeued"),
    daemon: z.string(),
    why: z.enum(["declined", "silent"]),
    detail: z.string(),
  }),
  /** It was lost, and its daemon is heard of again. */
  z.object({ type: z.literal("revived"), daemon: z.string() }),
  /** Its prompt was composed; `notes`: what went along and what was left out, in sentences. */
  z.object({ type: z.literal("composed"), notes: z.array(z.string()) }),
  z.object({ type: z.literal("cancel_requested"), cause: Cause }),
  z.object({
    type: z.literal("ended"),
    state: z.enum(runStates),
    failure: FailureCode.nullable(),
    cause: Cause.nullable(),
  }),
]);
export type OwnFact = z.infer<typeof OwnFact>;

/** A fact as it stands in a run's log. `attempt` 0: the app's own; `at` in milliseconds since 1970. */
export type LoggedFact = {
  id: number;
  attempt: number;
  seq: number;
  at: number;
  fact: Fact | OwnFact;
};

/** Appends a fact of the app's own to a run's log. */
export async function logOwn(tx: Tx, runId: string, fact: OwnFact) {
  const { type, ...data } = fact;
  const [last] = await tx
    .select({ seq: max(events.seq) })
    .from(events)
    .where(and(eq(events.runId, runId), eq(events.attempt, 0)));
  const seq = (last?.seq ?? 0) + 1;
  await tx.insert(events).values({ runId, attempt: 0, seq, at: tx.now, type, data });
}

/** Appends a daemon's events; the caller has checked that their numbers follow on. */
export async function logDaemon(tx: Tx, runId: string, attempt: number, facts: Event[]) {
  const rows = facts.map(({ seq, at, type, ...data }) => ({ runId, attempt, seq, at, type, data }));
  await tx.insert(events).values(rows);
}

/** Whether a daemon, by its name, has claimed this attempt once. */
export async function hadAttempt(
  tx: Reads,
  runId: string,
  { daemon, attempt }: { daemon: string; attempt: number },
): Promise<boolean> {
  const rows = await tx
    .select({ data: events.data })
    .from(events)
    .where(and(eq(events.runId, runId), eq(events.attempt, 0), eq(events.type, "claimed")));
  return rows.some(({ data }) => data.daemon === daemon && data.attempt === attempt);
}

/** A run's newest facts, oldest first, at most `limit`. */
export async function newestFacts(db: Reads, runId: string, limit: number): Promise<LoggedFact[]> {
  const rows = await db
    .select()
    .from(events)
    .where(eq(events.runId, runId))
    .orderBy(desc(events.id))
    .limit(limit);
  return parsed(rows.reverse());
}

/** A run's facts after the one with id `afterId`, oldest first, at most `limit`. */
export async function factsAfter(
  db: Reads,
  runId: string,
  afterId: number,
  limit: number,
): Promise<LoggedFact[]> {
  const rows = await db
    .select()
    .from(events)
    .where(and(eq(events.runId, runId), gt(events.id, afterId)))
    .orderBy(asc(events.id))
    .limit(limit);
  return parsed(rows);
}

/** What one view reads: of the types that there may be thousands of only the last ones. */
const factsMax = 2_000;
const manyTypes: Fact["type"][] = ["tool", "edit", "model", "usage", "output"];
const manyMax = 200;

/** The facts a view of a run is made of, oldest first: the app's own and those of `attempt`. */
export async function factsOfAttempt(
  db: Reads,
  runId: string,
  attempt: number,
): Promise<LoggedFact[]> {
  const newest = async (many: boolean, limit: number) =>
    await db
      .select()
      .from(events)
      .where(
        and(
          eq(events.runId, runId),
          inArray(events.attempt, [0, attempt]),
          many ? inArray(events.type, manyTypes) : notInArray(events.type, manyTypes),
        ),
      )
      .orderBy(desc(events.id))
      .limit(limit);
  const rows = [...(await newest(false, factsMax)), ...(await newest(true, manyMax))];
  return parsed(rows.sort((a, b) => a.id - b.id));
}

/** The number of the last message that reached the agent of a run's attempt; 0: none. */
export async function lastMessageHeard(tx: Reads, runId: string, attempt: number): Promise<number> {
  const rows = await tx
    .select()
    .from(events)
    .where(and(eq(events.runId, runId), eq(events.attempt, attempt), eq(events.type, "message")));
  const ids = parsed(rows).map(({ fact }) => (fact.type === "message" ? fact.id : 0));
  return Math.max(0, ...ids);
}

/** What tells how a run went, not what came of it; of what it has spent only the last word counts. */
const detailTypes: Fact["type"][] = [
  ...manyTypes,
  "stage",
  "notice",
  "service",
  "egress",
  "plan",
  "session",
];

/**
 * Forgets up to `limit` of a run's details, its tools, notices and the like; commits, receipts, messages and
 * what it has spent stay. Gives how many.
 */
export async function forgetDetails(tx: Tx, runId: string, limit: number): Promise<number> {
  const ofRun = eq(events.runId, runId);
  const [spent] = await tx
    .select({ id: max(events.id) })
    .from(events)
    .where(and(ofRun, eq(events.type, "usage")));
  const details = tx
    .select({ id: events.id })
    .from(events)
    .where(and(ofRun, inArray(events.type, detailTypes), ne(events.id, spent?.id ?? 0)))
    .limit(limit);
  const gone = await tx
    .delete(events)
    .where(inArray(events.id, details))
    .returning({ id: events.id });
  return gone.length;
}

/** Rows of the table as facts; one that this version cannot read is left out. */
function parsed(rows: (typeof events.$inferSelect)[]): LoggedFact[] {
  return rows.flatMap(({ id, attempt, seq, at, type, data }) => {
    const fact = attempt === 0 ? ownFact(type, data) : daemonFact(seq, at, type, data);
    return fact ? [{ id, attempt, seq, at, fact }] : [];
  });
}

function ownFact(type: string, data: object): OwnFact | null {
  return OwnFact.safeParse({ ...data, type }).data ?? null;
}

function daemonFact(seq: number, at: number, type: string, data: object): Fact | null {
  const { data: event } = Event.safeParse({ ...data, type, seq, at });
  if (!event) return null;
  const { seq: _, at: __, ...fact } = event;
  return fact;
}
