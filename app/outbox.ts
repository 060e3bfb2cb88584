import { and, eq, inArray, sql } from "drizzle-orm";
import type { Database, Tx } from "./database.ts";
import { reports } from "./schema.ts";

/**
 * What GitHub should look like, as rows written with the state they follow from (commit first, then
 * tell). A row is dirty while `written < wanted`; report.ts makes it true.
 */
export type Report = typeof reports.$inferSelect;
export type ReportKind = Report["kind"];

/**
 * Marks a GitHub object as to be made true again: at `at` and before all else when `urgent`; else not
 * before `at` nor before its last write is old enough, and together with what is wanted of it already.
 */
export async function want(
  tx: Tx,
  at: number,
  workspace: number,
  kind: ReportKind,
  subject: string,
  urgent: boolean,
  data: Record<string, unknown> | null = null,
) {
  const row = { kind, subject, workspace, wanted: 1, dueAt: at, urgent, data };
  await insertWants(tx, at, urgent, [row]);
}

/** Many objects of one kind, not urgently; in few statements, for there may be a thousand. */
export async function wantAll(
  tx: Tx,
  at: number,
  workspace: number,
  kind: ReportKind,
  subjects: string[],
) {
  for (let from = 0; from < subjects.length; from += rowsPerStatement) {
    const some = subjects.slice(from, from + rowsPerStatement);
    const row = { kind, workspace, wanted: 1, dueAt: at, urgent: false, data: null };
    await insertWants(
      tx,
      at,
      false,
      some.map((subject) => ({ ...row, subject })),
    );
  }
}

const rowsPerStatement = 200;

async function insertWants(
  tx: Tx,
  at: number,
  urgent: boolean,
  rows: (typeof reports.$inferInsert)[],
) {
  const soon = { dueAt: at, urgent: true };
  const inTurn = {
    dueAt: sql`case when ${reports.written} = ${reports.wanted} then max(${reports.dueAt}, ${at}) else ${reports.dueAt} end`,
  };
  await tx
    .insert(reports)
    .values(rows)
    .onConflictDoUpdate({
      target: [reports.kind, reports.subject],
      set: {
        wanted: sql`${reports.wanted} + 1`,
        workspace: sql`excluded.workspace`,
        ...(urgent ? soon : inTurn),
      },
    });
}

const one = (report: Report) =>
  and(eq(reports.kind, report.kind), eq(reports.subject, report.subject));

/** The dirty rows of a workspace and these kinds that are due, in the order in which GitHub should learn of them. */
export async function dueReports(
  db: Database,
  workspace: number,
  at: number,
  kinds: ReportKind[],
): Promise<Report[]> {
  if (kinds.length === 0) return [];
  return await db.read
    .select()
    .from(reports)
    .where(
      sql`${reports.workspace} = ${workspace} and written < wanted and ${reports.dueAt} <= ${at}
        and ${inArray(reports.kind, kinds)}`,
    )
    .orderBy(
      // What somebody waits for, in the order it was wanted; then what only shows progress.
      sql`${reports.urgent} desc`,
      reports.dueAt,
      sql`case ${reports.kind} when 'reaction' then 0 when 'pipeline' then 1 when 'prompt' then 2 when 'check' then 3 when 'pull' then 4 when 'comment' then 5 else 6 end`,
    )
    .limit(100);
}

/** When the next dirty row of the workspace is due; null when none is dirty. */
export async function nextDue(db: Database, workspace: number): Promise<number | null> {
  const [row] = await db.read
    .select({ at: sql<number | null>`min(${reports.dueAt})` })
    .from(reports)
    .where(sql`${reports.workspace} = ${workspace} and written < wanted`);
  return row?.at ?? null;
}

/** Every workspace with something unsent. */
export async function dirtyWorkspaces(db: Database): Promise<number[]> {
  const rows = await db.read
    .selectDistinct({ workspace: reports.workspace })
    .from(reports)
    .where(sql`written < wanted`);
  return rows.map((row) => row.workspace);
}

/** Before a POST: from here on, a retry looks for the object before it creates another. */
export async function markTried(db: Database, report: Report) {
  await db.write((tx) => tx.update(reports).set({ tried: true }).where(one(report)));
}

/**
 * The object was as wanted when `report` was read; not before `notBefore` is it written again, unless
 * something was wanted meanwhile, which keeps its own time.
 */
export async function markWritten(db: Database, report: Report, notBefore: number) {
  await db.write((tx) =>
    tx
      .update(reports)
      .set({
        written: report.wanted,
        attempts: 0,
        error: null,
        // What was urgently wanted meanwhile has a time of its own; the rest waits its turn.
        urgent: sql`${reports.wanted} > ${report.wanted} and ${reports.dueAt} > ${report.dueAt}`,
        dueAt: sql`case when ${reports.wanted} > ${report.wanted} and ${reports.dueAt} > ${report.dueAt} then ${reports.dueAt} else ${notBefore} end`,
      })
      .where(one(report)),
  );
}

/** Tried in vain: again at `dueAt`, with the reason kept for people. */
export async function markFailed(db: Database, report: Report, dueAt: number, error: string) {
  await db.write((tx) =>
    tx
      .update(reports)
      .set({ attempts: report.attempts + 1, dueAt, error: error.slice(0, 500) })
      .where(one(report)),
  );
}

/** Not yet: nothing was tried, and it is looked at again at `dueAt`. */
export async function postpone(db: Database, report: Report, dueAt: number) {
  await db.write((tx) => tx.update(reports).set({ dueAt }).where(one(report)));
}

/** Nothing of this workspace can be written any more. */
export async function giveUpAll(tx: Tx, workspace: number, error: string) {
  await tx
    .update(reports)
    .set({ written: sql`${reports.wanted}`, error })
    .where(sql`${reports.workspace} = ${workspace} and written < wanted`);
}

/** Can never be made true: given up, with the reason kept for people. */
export async function giveUp(db: Database, report: Report, error: string) {
  await db.write((tx) =>
    tx
      .update(reports)
      .set({ written: report.wanted, error: error.slice(0, 500) })
      .where(one(report)),
  );
}

/** As `want`, but an object that was wanted before stays as it is: for words said only once. */
export async function wantOnce(
  tx: Tx,
  at: number,
  workspace: number,
  kind: ReportKind,
  subject: string,
  data: Record<string, unknown>,
) {
  await tx
    .insert(reports)
    .values({ kind, subject, workspace, wanted: 1, dueAt: at, data })
    .onConflictDoNothing();
}
