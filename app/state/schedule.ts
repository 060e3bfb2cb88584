import { eq, inArray, sql } from "drizzle-orm";
import type { Reads, Tx } from "./database.ts";
import { schedules } from "./schema.ts";

/** A repository whose trimo.yml has schedules. */
export type ScheduleRow = typeof schedules.$inferSelect;

/** Stores a repository's schedules; a new one fires from now on. */
export async function recordSchedules(tx: Tx, row: Omit<ScheduleRow, "lookedAt">) {
  const { repositoryId: _, ...changes } = row;
  await tx
    .insert(schedules)
    .values({ ...row, lookedAt: tx.now })
    .onConflictDoUpdate({ target: schedules.repositoryId, set: changes });
}

/** Forgets the schedules of these repositories. */
export async function forgetSchedules(tx: Tx, repositoryIds: number[]) {
  await tx.delete(schedules).where(inArray(schedules.repositoryId, repositoryIds));
}

/** Forgets the schedules of an installation that is gone. */
export async function forgetWorkspaceSchedules(tx: Tx, workspace: number) {
  await tx.delete(schedules).where(eq(schedules.workspace, workspace));
}

/** Every repository with schedules. */
export async function allSchedules(db: Reads): Promise<ScheduleRow[]> {
  return await db.select().from(schedules);
}

/** The time up to which this repository's firings have had their effect; it never goes back. */
export async function recordLook(tx: Tx, repositoryId: number, lookedAt: number) {
  await tx
    .update(schedules)
    .set({ lookedAt: sql`max(${schedules.lookedAt}, ${lookedAt})` })
    .where(eq(schedules.repositoryId, repositoryId));
}
