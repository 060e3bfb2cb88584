import { eq, gt, lte } from "drizzle-orm";
import type { Settle } from "../protocol/wire.ts";
import type { Tx } from "./database.ts";
import { type daemons, pauses } from "./schema.ts";

type Daemon = typeof daemons.$inferSelect;
export type Pause = typeof pauses.$inferSelect;

/** Where a service does not tell when it takes more. */
const unknownMs = 15 * 60_000;
/** A service that says "at once" has just refused; and none is believed further ahead than this. */
const leastMs = 5_000;
const mostMs = 8 * 24 * 3_600_000;

/** These agents of a machine have used up their quota. */
export async function pauseAgents(
  tx: Tx,
  at: number,
  daemon: Daemon,
  { resetAt, agents }: NonNullable<Settle["quota"]>,
) {
  const until = Math.min(at + mostMs, Math.max(at + leastMs, resetAt ?? at + unknownMs));
  for (const agent of agents) {
    const row = { daemonId: daemon.id, agent, until };
    await tx
      .insert(pauses)
      .values(row)
      .onConflictDoUpdate({ target: [pauses.daemonId, pauses.agent], set: { until } });
  }
}

/** All that hold now. */
export async function pausesNow(tx: Pick<Tx, "select">, at: number): Promise<Pause[]> {
  return await tx.select().from(pauses).where(gt(pauses.until, at));
}

/** The pause of the agent that this machine would take for a run; null: it can begin there. */
export function pauseOf(
  all: Pause[],
  daemon: Pick<Daemon, "id" | "agents">,
  agent: string | null,
): Pause | null {
  const name = agent ?? daemon.agents[0];
  return all.find((pause) => pause.daemonId === daemon.id && pause.agent === name) ?? null;
}

/** Removes those that are over; true when there were some, and the queue is to be looked at. */
export async function endPauses(tx: Tx, at: number): Promise<boolean> {
  const over = await tx
    .delete(pauses)
    .where(lte(pauses.until, at))
    .returning({ id: pauses.daemonId });
  return over.length > 0;
}

/** The daemon was started anew: somebody may have seen to its keys. */
export async function liftPauses(tx: Tx, daemon: Daemon) {
  await tx.delete(pauses).where(eq(pauses.daemonId, daemon.id));
}
