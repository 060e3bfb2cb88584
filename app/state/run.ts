import { and, asc, count, desc, eq, gt, inArray, isNull, like, lt, lte, max } from "drizzle-orm";
import { promptMax } from "../protocol/job.ts";
import type { Cause } from "./cause.ts";
import type { Reads, Tx } from "./database.ts";
import { logOwn, type OwnFact } from "./event.ts";
import { request, requestEach } from "./report.ts";
import { type RunState, runs } from "./schema.ts";

/** One prompt executed once. */
export type Run = typeof runs.$inferSelect;

//             ┌─────────── cancelled ◀──────────┐
//   queued ───┴▶ claimed ──▶ running ──▶ succeeded · failed · cancelled · timed_out · lost
//     ▲             │
//     └─────────────┘  only when nothing of it has started
//                 lost ──▶ running  when its daemon is heard of again, and nothing was built on it
const moves = {
  queued: ["claimed", "cancelled"],
  claimed: ["running", "queued", "failed", "cancelled", "lost"],
  running: ["succeeded", "failed", "cancelled", "timed_out", "lost"], // it may have pushed: never requeue
  succeeded: [],
  failed: [],
  cancelled: [],
  timed_out: [],
  lost: ["running"],
} satisfies Record<RunState, RunState[]>;

/**
 * Between two reports of the queue's positions: at least `leastMs`, and `eachMs` for each queued run.
 * Check runs may be written far more often than comments.
 */
const positionPace = {
  check: { leastMs: 3_000, eachMs: 500 },
  comment: { leastMs: 10_000, eachMs: 2_500 },
};

/** The states of a run that a daemon has. */
export const liveStates = ["claimed", "running"] as const satisfies RunState[];
/** The states of a run that has not ended. */
export const openStates = ["queued", ...liveStates] as const satisfies RunState[];

/** Whether a run in this state has ended. */
export const isOver = (state: RunState): boolean => !openStates.some((open) => open === state);

/** What a new run needs to be told; the rest follows from its pipeline and its place in it. */
type NewRun = Pick<
  Run,
  "pipelineId" | "workspace" | "repository" | "prompt" | "requestedBy" | "origin" | "thread"
> &
  Partial<
    Pick<
      Run,
      | "kind"
      | "composed"
      | "fresh"
      | "fallback"
      | "label"
      | "priority"
      | "askedAt"
      | "requestHash"
      | "agent"
      | "askedImage"
    >
  >;

/**
 * Adds a run to the end of its pipeline's queue, with its first event and its reports. Its prompt is cut
 * to what the wire takes. Wakes the queue.
 */
export async function enqueue(tx: Tx, run: NewRun): Promise<Run> {
  const [last] = await tx
    .select({ number: max(runs.number) })
    .from(runs)
    .where(eq(runs.pipelineId, run.pipelineId));
  const [row] = await tx
    .insert(runs)
    .values({
      askedAt: tx.now,
      ...run,
      id: tx.newId(),
      prompt: run.prompt.slice(0, promptMax),
      number: (last?.number ?? 0) + 1,
      state: "queued",
      createdAt: tx.now,
    })
    .returning();
  if (!row) throw new Error(`a run of pipeline ${run.pipelineId} was not stored`);
  await logOwn(tx, row.id, { type: "queued", by: row.requestedBy, origin: row.origin });
  await requestReports(tx, row, true);
  if (row.composed === null) await requestPrompt(tx, row);
  tx.wake("queue");
  return row;
}

/** Adds the run that follows another by itself: same thread, agents and image, on top of what that has done. */
export async function enqueueAfter(
  tx: Tx,
  run: Run,
  next: Pick<Run, "kind" | "prompt" | "requestedBy" | "origin" | "priority">,
): Promise<Run> {
  const { pipelineId, workspace, repository, agent, askedImage, thread, fallback } = run;
  return await enqueue(tx, {
    ...next,
    pipelineId,
    workspace,
    repository,
    agent,
    askedImage,
    thread,
    fallback,
  });
}

/**
 * Moves a run, with its event and its reports. `run` is what the caller believes: when the row says
 * otherwise nothing changes and the answer is null.
 *
 * @throws when the table of moves does not allow it: a fault of the caller's.
 */
export async function move(
  tx: Tx,
  run: Run,
  to: RunState,
  changes: Partial<typeof runs.$inferInsert> = {},
  fact: OwnFact | null = null,
): Promise<Run | null> {
  const allowed: RunState[] = moves[run.state];
  if (!allowed.includes(to)) throw new Error(`a ${run.state} run cannot become ${to}`);
  const [row] = await tx
    .update(runs)
    .set({ ...changes, state: to, ...(isOver(to) ? { endedAt: tx.now } : {}) })
    .where(and(eq(runs.id, run.id), eq(runs.state, run.state), eq(runs.attempt, run.attempt)))
    .returning();
  if (!row) return null;
  if (fact) await logOwn(tx, row.id, fact);
  await requestReports(tx, row, true);
  tx.wake("run", row.id);
  if (to === "queued" || isOver(to)) tx.wake("queue");
  return row;
}

/** Changes what a run shows without moving it. */
export async function note(tx: Tx, run: Run, changes: Partial<typeof runs.$inferInsert>) {
  if (Object.keys(changes).length > 0)
    await tx.update(runs).set(changes).where(eq(runs.id, run.id));
  await requestReports(tx, run, false);
  tx.wake("run", run.id);
}

/** The prompts of a pipeline's queued runs are composed anew, when their turn has come. */
export async function forgetPrompts(tx: Tx, pipelineId: string) {
  await tx
    .update(runs)
    .set({ composed: null })
    .where(and(eq(runs.pipelineId, pipelineId), eq(runs.state, "queued")));
}

/** Stores up to which number a run's events are here. */
export async function recordSeq(tx: Tx, id: string, lastSeq: number) {
  await tx.update(runs).set({ lastSeq }).where(eq(runs.id, id));
}

/** Stores what is to stop a run; it ends as cancelled when it does. */
export async function recordCancel(tx: Tx, id: string, cancelledBy: Cause) {
  await tx.update(runs).set({ cancelledBy }).where(eq(runs.id, id));
}

/** Stores which comment on GitHub is a run's, and what was written there last. */
export async function recordComment(
  tx: Tx,
  id: string,
  comment: Pick<Run, "commentId" | "commentHash" | "commentDeleted">,
) {
  await tx.update(runs).set(comment).where(eq(runs.id, id));
}

/**
 * Stores what the agent of `run` will be told; from here on it can be claimed. Wakes the queue. False: it was
 * asked for more meanwhile, or has moved on, and nothing is stored.
 */
export async function recordPrompt(
  tx: Tx,
  { id, prompt: asked }: Pick<Run, "id" | "prompt">,
  prompt: Required<Pick<Run, "handoff">> & { composed: string },
): Promise<boolean> {
  const rows = await tx
    .update(runs)
    .set(prompt)
    .where(
      and(eq(runs.id, id), eq(runs.state, "queued"), eq(runs.prompt, asked), isNull(runs.composed)),
    )
    .returning({ id: runs.id });
  tx.wake("queue");
  tx.wake("run", id);
  return rows.length > 0;
}

/** Asks a queued run for more than it was asked; its prompt is composed anew. */
export async function extendRequest(tx: Tx, run: Run, prompt: string) {
  await tx
    .update(runs)
    .set({ prompt: prompt.slice(0, promptMax), composed: null })
    .where(and(eq(runs.id, run.id), eq(runs.state, "queued")));
  await requestPrompt(tx, run);
}

/** Sets how soon the queued runs of a pipeline are wanted. */
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
  { repository, workspace }: Pick<Run, "repository" | "workspace">,
) {
  await tx.update(runs).set({ repository, workspace }).where(eq(runs.pipelineId, pipelineId));
}

/** Queued runs that a daemon has declined are offered to it again. */
export async function forgetDeclines(tx: Tx, daemonId: string) {
  const declined = await tx
    .select({ id: runs.id, declinedBy: runs.declinedBy })
    .from(runs)
    .where(and(eq(runs.state, "queued"), like(runs.declinedBy, `%"${daemonId}"%`)));
  for (const { id, declinedBy } of declined)
    await tx
      .update(runs)
      .set({ declinedBy: declinedBy.filter((one) => one !== daemonId) })
      .where(eq(runs.id, id));
  if (declined.length > 0) tx.wake("queue");
}

/** Ends a run as cancelled; null when it has moved on meanwhile. */
export async function endCancelled(tx: Tx, run: Run, cause: Cause): Promise<Run | null> {
  const fact = { type: "ended" as const, state: "cancelled" as const, failure: null, cause };
  return await move(tx, run, "cancelled", { cancelledBy: cause }, fact);
}

/** Ends a run that no daemon has any more; null when it has moved on meanwhile. */
export async function loseRun(tx: Tx, run: Run): Promise<Run | null> {
  const failure = "daemon_lost" as const;
  const fact = { type: "ended" as const, state: "lost" as const, failure, cause: null };
  return await move(tx, run, "lost", { failureCode: failure }, fact);
}

/** A lost run whose daemon was heard of again goes on; null when it has moved on meanwhile. */
export async function reviveRun(tx: Tx, run: Run): Promise<Run | null> {
  const fact = { type: "revived" as const, daemon: run.daemon ?? "" };
  const revived = { failureCode: null, failureDetail: null, endedAt: null };
  return await move(tx, run, "running", revived, fact);
}

/** The run with this id; null: there is none. */
export async function findRun(tx: Reads, id: string): Promise<Run | null> {
  const [row] = await tx.select().from(runs).where(eq(runs.id, id));
  return row ?? null;
}

/** The newest run whose check stands on a commit; null: none does. */
export async function findRunAt(tx: Reads, sha: string): Promise<Run | null> {
  const [row] = await tx
    .select()
    .from(runs)
    .where(eq(runs.headSha, sha))
    .orderBy(desc(runs.createdAt))
    .limit(1);
  return row ?? null;
}

/** The runs of a pipeline that have not ended, the oldest first. */
export async function openRuns(tx: Reads, pipelineId: string): Promise<Run[]> {
  return await tx
    .select()
    .from(runs)
    .where(and(eq(runs.pipelineId, pipelineId), inArray(runs.state, [...openStates])))
    .orderBy(runs.number);
}

/** Every run of a pipeline, first to last. */
export async function runsOf(tx: Reads, pipelineId: string): Promise<Run[]> {
  return await tx
    .select()
    .from(runs)
    .where(eq(runs.pipelineId, pipelineId))
    .orderBy(asc(runs.number));
}

/** The runs of a pipeline before a number, newest first, at most `limit`. */
export async function runsBefore(
  tx: Reads,
  { pipelineId, number }: Pick<Run, "pipelineId" | "number">,
  limit: number,
): Promise<Run[]> {
  return await tx
    .select()
    .from(runs)
    .where(and(eq(runs.pipelineId, pipelineId), lt(runs.number, number)))
    .orderBy(desc(runs.number))
    .limit(limit);
}

/** The newest run of a pipeline; null: it has none yet. */
export async function lastRun(tx: Reads, pipelineId: string): Promise<Run | null> {
  const [row] = await tx
    .select()
    .from(runs)
    .where(eq(runs.pipelineId, pipelineId))
    .orderBy(desc(runs.number))
    .limit(1);
  return row ?? null;
}

/** Whether any run is queued. */
export async function anyQueued(tx: Reads): Promise<boolean> {
  const rows = await tx.select({ id: runs.id }).from(runs).where(eq(runs.state, "queued")).limit(1);
  return rows.length > 0;
}

/** Asks for a run's prompt to be composed. */
async function requestPrompt(tx: Tx, { workspace, id }: Pick<Run, "workspace" | "id">) {
  await request(tx, { workspace, subject: id, wanted: { kind: "prompt" } }, { urgent: true });
}

/** Asks for a run's check run and comment to be written anew. */
export async function requestShown(
  tx: Tx,
  { workspace, id }: Pick<Run, "workspace" | "id">,
  urgent: boolean,
) {
  await request(tx, { workspace, subject: id, wanted: { kind: "check" } }, { urgent });
  await request(tx, { workspace, subject: id, wanted: { kind: "comment" } }, { urgent });
}

/** Asks for what people see of a run to be written anew, and at its end for what follows from that. */
async function requestReports(tx: Tx, run: Run, urgent: boolean) {
  await requestShown(tx, run, urgent);
  if (!isOver(run.state)) return;
  const { workspace, repository, thread, label, pipelineId } = run;
  await request(tx, { workspace, subject: pipelineId, wanted: { kind: "pull" } }, { urgent });
  // Removed at the end, so that adding it again runs again.
  if (label) {
    const wanted = { kind: "label" as const, repository, issue: thread, label };
    await request(tx, { workspace, subject: run.id, wanted }, { urgent: false });
  }
  const [next] = await openRuns(tx, pipelineId);
  if (next?.composed === null) await requestPrompt(tx, next);
}

/**
 * Asks for the position of every queued run of a workspace to be written anew: the more there are the
 * later, so that a long queue does not use up what GitHub lets Trimo write.
 */
export async function requestPositions(tx: Tx, workspace: number) {
  const queued = and(eq(runs.workspace, workspace), eq(runs.state, "queued"));
  const [waiting] = await tx.select({ n: count() }).from(runs).where(queued);
  const n = waiting?.n ?? 0;
  if (n === 0) return;
  for (const kind of ["check", "comment"] as const) {
    const { leastMs, eachMs } = positionPace[kind];
    const at = tx.now + Math.max(leastMs, n * eachMs);
    await requestEach(tx, { workspace, kind, runs: queued, at });
  }
}

/** The same in every workspace where something waits. */
export async function requestAllPositions(tx: Tx) {
  const rows = await tx
    .selectDistinct({ workspace: runs.workspace })
    .from(runs)
    .where(eq(runs.state, "queued"));
  for (const { workspace } of rows) await requestPositions(tx, workspace);
}

/** The runs that ended after one time and not after another (milliseconds since 1970), in that order, or the first of them. */
export async function endedBetween(
  db: Reads,
  after: number,
  upTo: number,
  limit = -1,
): Promise<{ id: string; endedAt: number }[]> {
  const rows = await db
    .select({ id: runs.id, endedAt: runs.endedAt })
    .from(runs)
    .where(and(gt(runs.endedAt, after), lte(runs.endedAt, upTo)))
    .orderBy(asc(runs.endedAt))
    .limit(limit);
  return rows.flatMap(({ id, endedAt }) => (endedAt === null ? [] : [{ id, endedAt }]));
}
