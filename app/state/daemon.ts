import { count, eq, inArray, sql } from "drizzle-orm";
import type { Reads, Tx } from "./database.ts";
import { hashOf } from "./identity.ts";
import { liveStates } from "./run.ts";
import { daemons, runs } from "./schema.ts";

/** An enrolled daemon. */
export type Daemon = typeof daemons.$inferSelect;

/** A daemon that has been silent for this long is away: it renews far more often. */
export const awayMs = 60_000;

/** Whether a daemon was heard of lately, and has slots at all; `now` in milliseconds since 1970. */
export function isHere(daemon: Pick<Daemon, "slots" | "seenAt">, now: number): boolean {
  return daemon.slots > 0 && daemon.seenAt !== null && now - daemon.seenAt <= awayMs;
}

/** When a daemon was heard of is stored this often, in milliseconds. */
const seenEveryMs = 10_000;

/** Whether it is to be stored again that a daemon was heard of; `now` in milliseconds since 1970. */
export function isSeenStale({ seenAt }: Pick<Daemon, "seenAt">, now: number): boolean {
  return seenAt === null || now < seenAt || now - seenAt >= seenEveryMs;
}

/** Every enrolled daemon. */
export async function allDaemons(tx: Reads): Promise<Daemon[]> {
  return await tx.select().from(daemons);
}

/** How many runs each daemon, by its name, has under way. */
export async function busyByDaemon(db: Reads): Promise<Map<string, number>> {
  const rows = await db
    .select({ daemon: runs.daemon, busy: count() })
    .from(runs)
    .where(sql`${inArray(runs.state, [...liveStates])} and ${runs.daemon} is not null`)
    .groupBy(runs.daemon);
  return new Map(rows.map(({ daemon, busy }) => [daemon ?? "", busy]));
}

/** The daemon with this name; null: none is enrolled under it. */
export async function findDaemon(tx: Reads, name: string): Promise<Daemon | null> {
  const [row] = await tx.select().from(daemons).where(eq(daemons.name, name));
  return row ?? null;
}

/** The daemon that has this token; null: nobody has. */
export async function daemonByToken(tx: Reads, token: string): Promise<Daemon | null> {
  const [row] = await tx
    .select()
    .from(daemons)
    .where(eq(daemons.tokenHash, hashOf(token)));
  return row ?? null;
}

/** Enrols a daemon; of its token only the hash is kept. `account`: the one it may serve; null: all. */
export async function addDaemon(
  tx: Tx,
  { name, token, account }: { name: string; token: string; account: string | null },
) {
  await tx.insert(daemons).values({
    id: tx.newId(),
    name,
    tokenHash: hashOf(token),
    account,
    repositories: [],
    agents: [],
    createdAt: tx.now,
  });
}

/** Gives a daemon another token; the one before is known no more. */
export async function replaceToken(tx: Tx, { id }: Pick<Daemon, "id">, token: string) {
  await tx
    .update(daemons)
    .set({ tokenHash: hashOf(token) })
    .where(eq(daemons.id, id));
}

/** Removes a daemon; its leases and pauses are the caller's. */
export async function removeDaemon(tx: Tx, { id }: Pick<Daemon, "id">) {
  await tx.delete(daemons).where(eq(daemons.id, id));
}

/** The daemon was heard of just now. */
export async function recordSeen(tx: Tx, { id }: Pick<Daemon, "id">) {
  await tx.update(daemons).set({ seenAt: tx.now }).where(eq(daemons.id, id));
}

/** What the daemon has said of itself. */
export async function recordHello(
  tx: Tx,
  { id }: Pick<Daemon, "id">,
  hello: Pick<Daemon, "version" | "slots" | "repositories" | "agents" | "start">,
) {
  await tx
    .update(daemons)
    .set({ ...hello, seenAt: tx.now })
    .where(eq(daemons.id, id));
}
