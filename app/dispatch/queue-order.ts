import { type SQL, sql } from "drizzle-orm";
import type { Run } from "../state/run.ts";
import { pipelines, runs, workspaces } from "../state/schema.ts";

// What the queue is: said once, for the claim that takes from it and for the position that people read.
// Each is a condition over `runs` joined with the run's row of `pipelines`.

/** Priority, then age: the order in which queued runs are taken. */
export const queueOrder: SQL = sql`${runs.priority} desc, ${runs.createdAt}, runs.rowid`;

/** Runs that are in the queue at all: nobody has closed, held or suspended what they belong to. */
export const inQueue: SQL = sql`${runs.state} = 'queued' and ${pipelines.state} = 'open' and ${pipelines.held} = 0
  and not exists (select 1 from ${workspaces} where ${workspaces.id} = ${runs.workspace} and ${workspaces.state} <> 'active')`;

/** Runs in the queue that may start now: prompt and branch are made, and it is their pipeline's turn. */
export const isClaimable: SQL = sql`${inQueue} and ${pipelines.branchReady} = 1 and ${runs.composed} is not null
  and not exists (select 1 from runs r2 where r2.pipeline_id = ${runs.pipelineId}
    and (r2.state in ('claimed', 'running') or (r2.state = 'queued' and r2.number < ${runs.number})))`;

/** Runs that come before `run` in `queueOrder`. */
export const isBefore = ({ id, priority, createdAt }: Run): SQL =>
  sql`(${runs.priority} > ${priority} or (${runs.priority} = ${priority}
    and (${runs.createdAt} < ${createdAt} or (${runs.createdAt} = ${createdAt}
      and runs.rowid < (select mine.rowid from runs mine where mine.id = ${id})))))`;
