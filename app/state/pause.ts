import { eq, gt, lt, lte } from "drizzle-orm";
import type { PausingCode } from "../protocol/failure.ts";
import type { Settle } from "../protocol/settle.ts";
import type { Daemon } from "./daemon.ts";
import type { Reads, Tx } from "./database.ts";
import { pauses } from "./schema.ts";

/** An agent of a daemon whose service takes no more requests until a time. */
export type Pause = typeof pauses.$inferSelect;

/** How long agents pause where their service does not say when it takes more. */
const unknownMs: Record<PausingCode, number> = {
  quota_reached: 15 * 60_000,
  model_overloaded: 5 * 60_000,
};
/** A service that says "at once" has just refused; and none is believed further ahead than this. */
const leastMs = 5_000;
const mostMs = 8 * 24 * 3_600_000;

/** Pauses the agents of a daemon whose service takes no more requests for now. */
export async function pauseAgents(
  tx: Tx,
  daemon: Pick<Daemon, "id">,
  { resetAt, agents, code }: NonNullable<Settle["quota"]> & { code: PausingCode },
) {
  const least = tx.now + leastMs;
  const until = Math.min(tx.now + mostMs, Math.max(least, resetAt ?? tx.now + unknownMs[code]));
  for (const agent of agents) {
    const row = { daemonId: daemon.id, agent, until, code };
    await tx
      .insert(pauses)
      .values(row)
      .onConflictDoUpdate({
        target: [pauses.daemonId, pauses.agent],
        set: { until, code },
        // A service that stumbles does not say that its quota is there again.
        ...(code === "model_overloaded" ? { setWhere: lt(pauses.until, until) } : {}),
      });
  }
}

/** Every pause that holds at `at` (milliseconds since 1970). */
export async function pausesAt(tx: Reads, at: number): Promise<Pause[]> {
  return await tx.select().from(pauses).where(gt(pauses.until, at));
}

/** The pause of the agent that this daemon would take for a run; null: it can begin there. */
export function pauseOf(
  all: Pause[],
  daemon: Pick<Daemon, "id" | "agents">,
  agent: string | null,
): Pause | null {
  const name = agent ?? daemon.agents[0];
  return all.find((pause) => pause.daemonId === daemon.id && pause.agent === name) ?? null;
}

/** Removes the pauses that have ended; true when there were some, and the queue may move. */
export async function endPauses(tx: Tx): Promise<boolean> {
  const ended = await tx
    .delete(pauses)
    .where(lte(pauses.until, tx.now))
    .returning({ id: pauses.daemonId });
  return ended.length > 0;
}

/** Ends every pause of a daemon that was started anew: somebody may have seen to its keys. */
export async function liftPauses(tx: Tx, daemon: Pick<Daemon, "id">) {
  await tx.delete(pauses).where(eq(pauses.daemonId, daemon.id));
}
