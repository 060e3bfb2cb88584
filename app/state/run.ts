import { and, eq, inArray, max } from "drizzle-orm";
import type { Failure } from "../protocol/failure.ts";
import { promptMax } from "../protocol/wire.ts";
import type { Tx } from "./database.ts";
import { logOwn, type OwnFact } from "./event.ts";
import { newId } from "./identity.ts";
import { want, wantAll } from "./report.ts";
import { type RunState, runs } from "./schema.ts";

export type Run = typeof runs.$inferSelect;

//             ┌─────────── cancelled ◀──────────┐
//   queued ───┴▶ claimed ──▶ running ──▶ succeeded · failed · cancelled · timed_out · lost
//     ▲             │
//     └─────────────┘  only when nothing of it has started
const moves = {
  queued: ["claimed", "cancelled"],
  claimed: ["running", "queued", "failed", "cancelled", "lost"],
  running: ["succeeded", "failed", "cancelled", "timed_out", "lost"], // it may have pushed: never requeue
  succeeded: [],
  failed: [],
  cancelled: [],
  timed_out: [],
  lost: [],
} satisfies Record<RunState, RunState[]>;

/**
 * Between two tellings of where the queued runs stand: at least this, and this for each of them.
 * Checks may be written far more often than comments.
 */
const placePace = {
  check: { leastMs: 3_000, eachMs: 500 },
  comment: { leastMs: 10_000, eachMs: 2_500 },
};

const openStates: RunState[] = ["queued", "claimed", "running"];
export const isOver = (state: RunState): boolean => moves[state].length === 0;

/** Adds a run to the end of its pipeline's line, with its first event and wanted reports. */
export async function start(
  tx: Tx,
  at: number,
  run: Pick<
    typeof runs.$inferInsert,
    "id" | "pipelineId" | "workspace" | "repository" | "prompt" | "requestedBy" | "trigger"
  > &
    Partial<
      Pick<
        Run,
        | "kind"
        | "composed"
        | "handover"
        | "fresh"
        | "fallback"
        | "thread"
        | "label"
        | "priority"
        | "askedAt"
        | "wish"
      >
    > & {
      agent: string | null;
      image: string | null;
    },
): Promise<Run> {
  const [last] = await tx
    .select({ number: max(runs.number) })
    .from(runs)
    .where(eq(runs.pipelineId, run.pipelineId));
  const [row] = await tx
    .insert(runs)
    .values({
      ...run,
      askedImage: run.image,
      number: (last?.number ?? 0) + 1,
      state: "queued",
      createdAt: at,
    })
    .returning();
  if (!row) throw new Error(`run ${run.id} was not stored`);
  await logOwn(tx, row.id, at, { type: "queued", by: row.requestedBy, trigger: row.trigger });
  await wantReports(tx, row, at, true);
  if (row.composed === null) await want(tx, at, row.workspace, "prompt", row.id, true);
  return row;
}

/** The run that follows one by itself: same thread, agents and image, on top of what that has done. */
export async function startAfter(
  tx: Tx,
  at: number,
  run: Run,
  priority: number,
  next: Pick<Run, "kind" | "prompt" | "requestedBy" | "trigger">,
): Promise<Run> {
  const { pipelineId, workspace, repository, agent, thread, fallback } = run;
  return await start(tx, at, {
    ...next,
    id: newId(),
    pipelineId,
    workspace,
    repository,
    prompt: next.prompt.slice(0, promptMax),
    agent,
    image: run.askedImage,
    thread,
    priority,
    askedAt: at,
    fallback,
  });
}

/**
 * Moves a run, with its event and its reports. `from` is what the caller believes: when the row says
 * otherwise nothing changes and the answer is null.
 */
export async function move(
  tx: Tx,
  at: number,
  run: Run,
  to: RunState,
  changes: Partial<typeof runs.$inferInsert>,
  fact: OwnFact | null,
): Promise<Run | null> {
  const allowed: RunState[] = moves[run.state];
  if (!allowed.includes(to)) throw new Error(`a ${run.state} run cannot become ${to}`);
  const [row] = await tx
    .update(runs)
    .set({ ...changes, state: to, ...(isOver(to) ? { endedAt: at } : {}) })
    .where(and(eq(runs.id, run.id), eq(runs.state, run.state), eq(runs.attempt, run.attempt)))
    .returning();
  if (!row) return null;
  if (fact) await logOwn(tx, row.id, at, fact);
  await wantReports(tx, row, at, true);
  return row;
}

/** Changes what a run shows without moving it. */
export async function note(
  tx: Tx,
  at: number,
  run: Run,
  changes: Partial<typeof runs.$inferInsert>,
) {
  if (Object.keys(changes).length > 0)
    await tx.update(runs).set(changes).where(eq(runs.id, run.id));
  await wantReports(tx, run, at, false);
}

/** Up to which number its events are stored. */
export async function recordSeq(tx: Tx, id: string, lastSeq: number) {
  await tx.update(runs).set({ lastSeq }).where(eq(runs.id, id));
}

/** Who wants it stopped; it ends as cancelled when it does. */
export async function recordCancel(tx: Tx, id: string, cancelledBy: string) {
  await tx.update(runs).set({ cancelledBy }).where(eq(runs.id, id));
}

/** Where its comment is on GitHub, and what was written there last. */
export async function recordComment(tx: Tx, id: string, commentId: number, commentHash: string) {
  await tx.update(runs).set({ commentId, commentHash }).where(eq(runs.id, id));
}

/** What the agent will be told; from here on the run can be claimed. */
export async function recordPrompt(tx: Tx, id: string, composed: string, handover: string) {
  await tx.update(runs).set({ composed, handover }).where(eq(runs.id, id));
}

/** A queued run is asked for more than it was; its prompt is put together anew. */
export async function recordRequest(tx: Tx, at: number, run: Run, prompt: string) {
  await tx
    .update(runs)
    .set({ prompt, composed: null })
    .where(and(eq(runs.id, run.id), eq(runs.state, "queued")));
  await want(tx, at, run.workspace, "prompt", run.id, true);
}

/** How soon the queued runs of a pipeline are wanted. */
export async function recordPriority(tx: Tx, pipelineId: string, priority: number) {
  await tx
    .update(runs)
    .set({ priority })
    .where(and(eq(runs.pipelineId, pipelineId), eq(runs.state, "queued")));
}

/** The repository of a pipeline's runs has another name or owner. */
export async function renameRuns(
  tx: Tx,
  pipelineId: string,
  repository: string,
  workspace: number,
) {
  await tx.update(runs).set({ repository, workspace }).where(eq(runs.pipelineId, pipelineId));
}

/** How a run ends that somebody wanted stopped. */
export async function endCancelled(tx: Tx, at: number, run: Run, by: string): Promise<Run | null> {
  const fact = { type: "ended" as const, state: "cancelled", why: `by ${by}` };
  return await move(tx, at, run, "cancelled", { cancelledBy: by }, fact);
}

/** How a run ends that nobody holds any more. */
export async function loseRun(tx: Tx, at: number, run: Run, detail: string): Promise<Run | null> {
  const failure: Failure = { code: "daemon_lost", detail };
  return await move(
    tx,
    at,
    run,
    "lost",
    { failureCode: failure.code, failureDetail: failure.detail },
    { type: "ended", state: "lost", why: detail },
  );
}

/** The run of this pipeline that is queued or under way, the oldest first. */
export async function openRuns(tx: Pick<Tx, "select">, pipelineId: string): Promise<Run[]> {
  return await tx
    .select()
    .from(runs)
    .where(and(eq(runs.pipelineId, pipelineId), inArray(runs.state, openStates)))
    .orderBy(runs.number);
}

export async function findRun(tx: Pick<Tx, "select">, id: string): Promise<Run | null> {
  const [row] = await tx.select().from(runs).where(eq(runs.id, id));
  return row ?? null;
}

/** Its check run and its comment are to be written anew. */
export async function wantShown(tx: Tx, at: number, run: Run, urgent: boolean) {
  await want(tx, at, run.workspace, "check", run.id, urgent);
  await want(tx, at, run.workspace, "comment", run.id, urgent);
}

/** What people see of a run is to be written anew, and at its end what follows from that. */
async function wantReports(tx: Tx, run: Run, at: number, urgent: boolean) {
  await wantShown(tx, at, run, urgent);
  if (!isOver(run.state)) return;
  await want(tx, at, run.workspace, "pull", run.pipelineId, urgent);
  // Off at the end, so that putting it on again runs again.
  if (run.label) {
    const data = { repository: run.repository, issue: run.thread, label: run.label };
    await want(tx, at, run.workspace, "label", run.id, false, data);
  }
  const [next] = await openRuns(tx, run.pipelineId);
  if (next?.composed === null) await want(tx, at, next.workspace, "prompt", next.id, true);
}

/**
 * Where every queued run of a workspace stands has changed: told when their turn comes, the more there
 * are the later, so that a long line does not use up what GitHub lets us write.
 */
export async function wantPlaces(tx: Tx, at: number, workspace: number) {
  const waiting = await tx
    .select({ id: runs.id })
    .from(runs)
    .where(and(eq(runs.workspace, workspace), eq(runs.state, "queued")));
  for (const kind of ["check", "comment"] as const) {
    const { leastMs, eachMs } = placePace[kind];
    const later = at + Math.max(leastMs, waiting.length * eachMs);
    await wantAll(
      tx,
      later,
      workspace,
      kind,
      waiting.map(({ id }) => id),
    );
  }
}

/** The same in every workspace where something waits; gives them. */
export async function wantAllPlaces(tx: Tx, at: number): Promise<number[]> {
  const rows = await tx
    .selectDistinct({ workspace: runs.workspace })
    .from(runs)
    .where(eq(runs.state, "queued"));
  for (const { workspace } of rows) await wantPlaces(tx, at, workspace);
  return rows.map(({ workspace }) => workspace);
}

export async function anyQueued(tx: Pick<Tx, "select">): Promise<boolean> {
  const rows = await tx.select({ id: runs.id }).from(runs).where(eq(runs.state, "queued")).limit(1);
  return rows.length > 0;
}
