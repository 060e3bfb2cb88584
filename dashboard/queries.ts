import { count, desc, inArray, sql } from "drizzle-orm";
import type { Database } from "../app/database.ts";
import { daemons, pipelines, runs } from "../app/schema.ts";

/** Pipelines on the front page; older ones are on GitHub. */
const pipelinesMax = 50;

export type PipelineRow = {
  pipeline: typeof pipelines.$inferSelect;
  runs: (typeof runs.$inferSelect)[];
};

/** The newest pipelines with their runs, newest first. */
export async function recentPipelines(db: Database): Promise<PipelineRow[]> {
  const found = await db.read
    .select()
    .from(pipelines)
    .orderBy(desc(pipelines.createdAt))
    .limit(pipelinesMax);
  if (found.length === 0) return [];
  const ids = found.map((pipeline) => pipeline.id);
  const theirs = await db.read
    .select()
    .from(runs)
    .where(inArray(runs.pipelineId, ids))
    .orderBy(desc(runs.number));
  return found.map((pipeline) => ({
    pipeline,
    runs: theirs.filter((run) => run.pipelineId === pipeline.id),
  }));
}

export type Machine = typeof daemons.$inferSelect & { busy: number };

/** Every enrolled machine, and how many of its slots are taken. */
export async function machines(db: Database): Promise<Machine[]> {
  const rows = await db.read.select().from(daemons).orderBy(daemons.name);
  const busy = await db.read
    .select({ name: runs.daemon, n: count() })
    .from(runs)
    .where(sql`${runs.state} in ('claimed', 'running')`)
    .groupBy(runs.daemon);
  return rows.map((row) => ({ ...row, busy: busy.find((b) => b.name === row.name)?.n ?? 0 }));
}
