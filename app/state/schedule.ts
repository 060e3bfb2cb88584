import { eq, inArray, sql } from "drizzle-orm";
import type { Repository } from "../inbound/payload.ts";
import type { Parts } from "../intents/intent.ts";
import { readConfig } from "../text/trimo-yml.ts";
import type { Database, Tx } from "./database.ts";
import { type Schedule, schedules } from "./schema.ts";

export type ScheduleRow = typeof schedules.$inferSelect;
type Store = Pick<Parts, "db" | "github" | "clock">;

/** Reads a repository's set times anew; asked when its trimo.yml changed, and now and then. */
export async function refreshSchedules(parts: Store, workspace: number, repository: Repository) {
  const { config } = await readConfig(parts, { workspace, repository });
  const sources: Schedule[] = (config.discover ?? []).flatMap((source) =>
    "schedule" in source ? [{ ...source, agent: source.agent ?? null }] : [],
  );
  if (sources.length === 0) return await forgetSchedules(parts, [repository.id]);
  const now = parts.clock.now();
  const row = {
    workspace,
    repository: repository.fullName,
    defaultBranch: repository.defaultBranch,
    sources,
  };
  await parts.db.write((tx) =>
    tx
      .insert(schedules)
      .values({ ...row, repositoryId: repository.id, lookedAt: now })
      .onConflictDoUpdate({ target: schedules.repositoryId, set: row }),
  );
}

export async function forgetSchedules({ db }: Pick<Parts, "db">, repositoryIds: number[]) {
  await db.write((tx) =>
    tx.delete(schedules).where(inArray(schedules.repositoryId, repositoryIds)),
  );
}

/** Of an installation that is gone. */
export async function forgetWorkspace(tx: Tx, workspace: number) {
  await tx.delete(schedules).where(eq(schedules.workspace, workspace));
}

export async function allSchedules(db: Database): Promise<ScheduleRow[]> {
  return await db.read.select().from(schedules);
}

/** Up to which time this repository's firings have had their effect. */
export async function recordLook(tx: Tx, repositoryId: number, lookedAt: number) {
  await tx
    .update(schedules)
    .set({ lookedAt: sql`max(${schedules.lookedAt}, ${lookedAt})` })
    .where(eq(schedules.repositoryId, repositoryId));
}
