import { and, eq } from "drizzle-orm";
import type { Logger } from "pino";
import { checkBody, supersededBody } from "./check-run.ts";
import { commentBody, commentMarker, type Links } from "./comment.ts";
import { type Database, hashOf } from "./database.ts";
import { type CheckBody, type GitHub, GitHubError, type Workspace } from "./github.ts";
import {
  dirtyWorkspaces,
  dueReports,
  giveUp,
  markFailed,
  markTried,
  markWritten,
  nextDue,
  type Report,
  want,
  wantOnce,
} from "./outbox.ts";
import { findPipeline, type Pipeline, record } from "./pipeline.ts";
import { backoffMs, type Clock } from "./protocol/pace.ts";
import { closedWithoutChange, openingMessage, pullBody, pullTitle } from "./pull-request.ts";
import { findRun, isOver, move, openRuns, type Run, recordComment } from "./run.ts";
import { checkRuns } from "./schema.ts";
import { runsOf, viewRun } from "./view.ts";
import type { Wake } from "./wake.ts";

/** Between two writes of one object that only shows progress. */
const progressEveryMs = 3_000;
/** How often a refusal that is not passing is tried again before it is given up. */
const refusalsMax = 3;
/**
 * GitHub allows 80 writes of content a minute and 500 an hour, and 180 writes of any kind a minute
 * (REST docs, "Rate limits", secondary limits): a burst each, then a steady pace below that.
 */
const content = { burst: 10, perSecond: 1, perHour: 450 };
const other = { burst: 20, perSecond: 2, perHour: 4_000 };
const branchNamesMax = 20;

type Parts = {
  db: Database;
  github: GitHub;
  clock: Clock;
  wake: Wake;
  log: Logger;
  links: Links;
};
type Turn = Parts & { workspace: Workspace; report: Report; now: number };

/** Makes GitHub look as the rows say: one writer a workspace, until `signal` aborts. */
export async function runReports(parts: Parts, signal: AbortSignal) {
  const writers = new Map<number, Promise<void>>();
  // Kept while the process lives: a pace begun anew at each wake would be none.
  const workspaces = new Map<number, Workspace>();
  const paceOf = (id: number) => {
    const known = workspaces.get(id) ?? paced(parts.github.workspace(id), parts.clock, signal);
    workspaces.set(id, known);
    return known;
  };
  const again = new Set<number>();
  const ensure = (workspace: number) => {
    if (signal.aborted) return;
    // It may be on its way out, having just found nothing: then it is begun again.
    if (writers.has(workspace)) return void again.add(workspace);
    const writer = writeWorkspace(parts, workspace, paceOf(workspace), signal)
      .catch((error) => parts.log.error({ err: error, workspace }, "a report writer stopped"))
      .finally(() => {
        writers.delete(workspace);
        if (again.delete(workspace)) ensure(workspace);
      });
    writers.set(workspace, writer);
  };
  parts.wake.on("reports", ensure);
  while (!signal.aborted) {
    for (const workspace of await dirtyWorkspaces(parts.db)) ensure(workspace);
    await parts.clock.sleep(30_000, signal);
  }
  parts.wake.off("reports", ensure);
  await Promise.all(writers.values());
}

/** Writes until nothing is dirty; ends after a quiet while and is begun again by the next wake. */
async function writeWorkspace(parts: Parts, id: number, workspace: Workspace, signal: AbortSignal) {
  const { db, clock, wake } = parts;
  for (;;) {
    const stop = new AbortController();
    const nudge = (which: number) => which === id && stop.abort();
    wake.on("reports", nudge);
    try {
      const due = await dueReports(db, id, clock.now());
      for (const report of due) {
        if (signal.aborted) return;
        const pauseMs = await write({ ...parts, workspace, report, now: clock.now() });
        if (pauseMs > 0) {
          await clock.sleep(pauseMs, signal);
          break;
        }
        // A change that came meanwhile may belong before the rest.
        if (stop.signal.aborted) break;
      }
      if (due.length > 0) continue;
      const at = await nextDue(db, id);
      if (at === null) return;
      const wait = Math.max(5, Math.min(at - clock.now(), 30_000));
      await clock.sleep(wait, AbortSignal.any([signal, stop.signal]));
    } finally {
      wake.off("reports", nudge);
    }
    if (signal.aborted) return;
  }
}

/** One report made true; gives how long GitHub asked the whole workspace to wait. */
async function write(turn: Turn): Promise<number> {
  const { db, report, clock, log } = turn;
  try {
    const notBefore = await writers[report.kind](turn);
    await markWritten(db, report, notBefore);
    return 0;
  } catch (error) {
    if (!(error instanceof GitHubError)) throw error;
    const about = { kind: report.kind, subject: report.subject, status: error.status };
    if (!error.passing && report.attempts + 1 >= refusalsMax) {
      log.error({ ...about, err: error }, "a report is given up: GitHub refuses it");
      await giveUp(db, report, error.message);
      if (report.kind === "pipeline") await failUnopened(turn, error.message);
      return 0;
    }
    const pause = Math.max(
      error.retryAfterMs,
      backoffMs(report.attempts, 500, 60_000, Math.random()),
    );
    log.warn({ ...about, pause, err: error }, "a report failed and is tried again");
    await markFailed(db, report, clock.now() + pause, error.message);
    return error.retryAfterMs;
  }
}

/** Each gives the time before which the object need not be written again. */
const writers: Record<Report["kind"], (turn: Turn) => Promise<number>> = {
  reaction: async (turn) => {
    const data = turn.report.data as { repository: string; comment: number };
    await turn.workspace.react(data.repository, data.comment);
    return turn.now;
  },
  reply: writeReply,
  pipeline: writePipeline,
  check: writeCheck,
  comment: writeComment,
};

async function writeReply({ db, workspace, report, now }: Turn): Promise<number> {
  const data = report.data as { repository: string; issue: number; body: string };
  const marker = `<!-- trimo:reply=${report.subject} -->`;
  if (report.tried) {
    const since = new Date(report.dueAt - 3_600_000).toISOString();
    if (await workspace.findComment(data.repository, data.issue, marker, since)) return now;
  }
  await markTried(db, report);
  await workspace.createComment(data.repository, data.issue, `${marker}\n${data.body}`);
  return now;
}

async function writePipeline(turn: Turn): Promise<number> {
  const { db, report, now, wake } = turn;
  const found = await findPipeline(db.read, report.subject);
  if (!found || found.state === "closed") return now;
  if (found.state === "closing") return await closeUnchanged(turn, found);
  const pipeline = found.openingSha === null ? await openBranch(turn, found) : found;
  if (!pipeline) return now;
  wake.emit("queue");
  const runs = await runsOf(db, pipeline.id);
  const settled = runs.length > 0 && runs.every((run) => isOver(run.state));
  const last = runs.at(-1);
  const unchanged = last?.state === "succeeded" && !runs.some((run) => run.changed);
  if (settled && unchanged && (await beginClosing(turn, pipeline.id)))
    return await closeUnchanged(turn, pipeline);
  const done = settled && last?.state === "succeeded";
  const pull = await ensurePull(turn, pipeline, runs, done);
  if (pull && done && pull.pullState === "draft" && pull.pullNodeId) {
    await turn.workspace.markReady(pull.pullNodeId);
    await db.write((tx) => record(tx, pipeline.id, { pullState: "open" }));
  }
  return now;
}

/** The branch and its opening commit; null when the repository has nothing to stand on. */
async function openBranch(turn: Turn, pipeline: Pipeline): Promise<Pipeline | null> {
  const { db, workspace, github } = turn;
  const { repository } = pipeline;
  const baseSha = pipeline.baseSha ?? (await workspace.branchHead(repository, pipeline.baseBranch));
  if (!baseSha) {
    await endQueued(turn, pipeline, "Trimo: the repository has no commit yet");
    return null;
  }
  // Stored first: with the same base the opening commit is the same, however often it is asked for.
  await db.write((tx) => record(tx, pipeline.id, { baseSha }));
  if (pipeline.pullRequest !== "draft") {
    const branch = await freeName(turn, pipeline);
    return await recorded(turn, pipeline.id, { branch, baseSha, openingSha: "" });
  }
  const { tree } = await workspace.commit(repository, baseSha);
  const sha = await workspace.createCommit(repository, {
    message: openingMessage(pipeline),
    tree,
    parent: baseSha,
    date: new Date(pipeline.createdAt).toISOString(),
    author: await github.author(),
  });
  let branch = pipeline.branch;
  for (let n = 2; n <= branchNamesMax; n++) {
    const made = await workspace.createBranch(repository, branch, sha);
    const ours = made === "created" || (await workspace.branchHead(repository, branch)) === sha;
    if (ours) return await recorded(turn, pipeline.id, { branch, openingSha: sha, headSha: sha });
    branch = `${pipeline.branch}-${n}`;
  }
  throw new GitHubError(422, `${branchNamesMax} branches like ${pipeline.branch} exist already`, 0);
}

async function recorded(turn: Turn, id: string, changes: Parameters<typeof record>[2]) {
  const { db, now } = turn;
  await db.write(async (tx) => {
    await record(tx, id, changes);
    for (const run of await openRuns(tx, id)) {
      await want(tx, now, run.workspace, "check", run.id, true);
    }
  });
  return await findPipeline(db.read, id);
}

async function freeName({ workspace }: Turn, { repository, branch }: Pipeline): Promise<string> {
  let name = branch;
  for (let n = 2; n <= branchNamesMax; n++) {
    if ((await workspace.branchHead(repository, name)) === null) return name;
    name = `${branch}-${n}`;
  }
  throw new GitHubError(422, `${branchNamesMax} branches like ${branch} exist already`, 0);
}

/** GitHub will not have the branch: its runs would wait for ever. */
async function failUnopened(turn: Turn, why: string) {
  const pipeline = await findPipeline(turn.db.read, turn.report.subject);
  if (pipeline?.openingSha === null)
    await endQueued(turn, pipeline, `Trimo: GitHub refuses the branch ${pipeline.branch}: ${why}`);
}

async function endQueued({ db, now }: Turn, pipeline: Pipeline, cancelledBy: string) {
  await db.write(async (tx) => {
    for (const run of await openRuns(tx, pipeline.id)) {
      const fact = { type: "ended" as const, state: "cancelled", why: cancelledBy };
      await move(tx, now, run, "cancelled", { cancelledBy }, fact);
    }
    await record(tx, pipeline.id, { state: "closed" });
  });
}

async function ensurePull(
  turn: Turn,
  pipeline: Pipeline,
  runs: Run[],
  done: boolean,
): Promise<Pipeline> {
  const { db, workspace, report, links } = turn;
  const { repository, branch } = pipeline;
  const wanted = pipeline.pullRequest === "draft" || (pipeline.pullRequest === "ready" && done);
  const lastId = runs.at(-1)?.id;
  const last = lastId ? await viewRun(db, lastId, turn.now) : null;
  if (pipeline.pullNumber !== null) {
    const before = await workspace.pull(repository, pipeline.pullNumber);
    const body = pullBody(before.body, pipeline, runs, last, links);
    if (before.state !== "closed" && body !== before.body)
      await workspace.updatePull(repository, pipeline.pullNumber, { body });
    return await withPull(turn, pipeline, before);
  }
  if (!wanted || !pipeline.headSha) return pipeline;
  const found = report.tried ? await workspace.findPull(repository, branch) : null;
  if (found) return await withPull(turn, pipeline, found);
  await markTried(db, report);
  const body = pullBody("", pipeline, runs, last, links);
  const draft = pipeline.pullRequest === "draft";
  const title = pullTitle(pipeline);
  const pull = { title, body, head: branch, base: pipeline.baseBranch, draft };
  return await withPull(turn, pipeline, await workspace.createPull(repository, pull));
}

async function withPull(
  { db }: Turn,
  pipeline: Pipeline,
  pull: { number: number; nodeId: string; state: "draft" | "open" | "closed" },
): Promise<Pipeline> {
  const changes = { pullNumber: pull.number, pullNodeId: pull.nodeId, pullState: pull.state };
  await db.write((tx) => record(tx, pipeline.id, changes));
  return { ...pipeline, ...changes };
}

/** From here on nobody finds the pipeline any more; false when a run was added meanwhile. */
async function beginClosing({ db }: Turn, id: string): Promise<boolean> {
  return await db.write(async (tx) => {
    if ((await openRuns(tx, id)).length > 0) return false;
    await record(tx, id, { state: "closing" });
    return true;
  });
}

/** Nothing changed: the draft is closed with a sentence, and its branch removed. */
async function closeUnchanged(turn: Turn, pipeline: Pipeline): Promise<number> {
  const { db, workspace, now } = turn;
  const { repository, pullNumber } = pipeline;
  // Somebody may have pushed to it meanwhile; then it is theirs.
  const head = await workspace.branchHead(repository, pipeline.branch);
  const untouched = head !== null && head === pipeline.openingSha;
  if (head !== null && !untouched) {
    await db.write((tx) => record(tx, pipeline.id, { state: "open" }));
    return now;
  }
  if (pullNumber !== null) await workspace.updatePull(repository, pullNumber, { state: "closed" });
  if (untouched) await workspace.deleteBranch(repository, pipeline.branch);
  await db.write(async (tx) => {
    await record(tx, pipeline.id, {
      state: "closed",
      pullState: pullNumber === null ? null : "closed",
    });
    if (pullNumber === null) return;
    const data = { repository, issue: pullNumber, body: closedWithoutChange };
    await wantOnce(tx, now, pipeline.workspace, "reply", `closed:${pipeline.id}`, data);
  });
  return now;
}

async function writeCheck(turn: Turn): Promise<number> {
  const { db, report, now, links } = turn;
  const view = await viewRun(db, report.subject, now);
  if (!view || view.pipeline.openingSha === null) return now;
  const { run, pipeline } = view;
  const sha = run.headSha ?? pipeline.headSha;
  if (run.state === "queued" && (await standsBehind(turn, run))) return now;
  // Never on the default branch's own commit: it is not this run's work.
  if (sha && sha !== pipeline.baseSha) {
    const known = await db.read.select().from(checkRuns).where(eq(checkRuns.runId, run.id));
    const details = links.run(run.id);
    for (const old of known.filter((row) => row.sha !== sha && !row.completed))
      await putCheck(turn, run, old.sha, supersededBody(details, sha, now));
    await putCheck(turn, run, sha, checkBody(view, details, now));
  }
  return isOver(run.state) ? now : now + progressEveryMs;
}

/** Whether an earlier run of the pipeline still has the branch's check to itself. */
async function standsBehind({ db }: Turn, run: Run): Promise<boolean> {
  const open = await openRuns(db.read, run.pipelineId);
  return open.some((other) => other.number < run.number);
}

async function putCheck({ db, workspace }: Turn, run: Run, sha: string, body: CheckBody) {
  const where = and(eq(checkRuns.runId, run.id), eq(checkRuns.sha, sha));
  const [row] = await db.read.select().from(checkRuns).where(where);
  // A completed check run cannot be reopened, and the same words need not be sent twice.
  const written = hashOf(JSON.stringify(body));
  if (row?.completed || row?.written === written) return;
  const completed = body.status === "completed";
  let remoteId = row?.remoteId ?? null;
  if (remoteId === null && row?.tried)
    remoteId = await workspace.findCheck(run.repository, sha, run.id);
  if (remoteId !== null) await workspace.updateCheck(run.repository, remoteId, body);
  else {
    const tried = { runId: run.id, sha, tried: true };
    await db.write((tx) => tx.insert(checkRuns).values(tried).onConflictDoNothing());
    remoteId = await workspace.createCheck(run.repository, sha, run.id, body);
  }
  const changes = { remoteId, completed, written };
  await db.write((tx) => tx.update(checkRuns).set(changes).where(where));
}

async function writeComment(turn: Turn): Promise<number> {
  const { db, workspace, report, now, links } = turn;
  const view = await viewRun(db, report.subject, now);
  if (!view) return now;
  const { run, pipeline } = view;
  const body = commentBody(view, links, now);
  let id = run.commentId;
  if (id === null && report.tried) {
    const since = new Date(run.createdAt - 60_000).toISOString();
    const marker = commentMarker(run.id);
    id = await workspace.findComment(run.repository, pipeline.issue, marker, since);
  }
  if (id === null) {
    await markTried(db, report);
    id = await workspace.createComment(run.repository, pipeline.issue, body);
  } else await workspace.updateComment(run.repository, id, body);
  if (id !== run.commentId) await db.write((tx) => recordComment(tx, run.id, id));
  const current = await findRun(db.read, run.id);
  return current && isOver(current.state) ? now : now + progressEveryMs;
}

const writes: Partial<Record<keyof Workspace, "content" | "other">> = {
  createCommit: "other",
  createBranch: "other",
  deleteBranch: "other",
  createCheck: "other",
  updateCheck: "other",
  removeLabel: "other",
  react: "content",
  createPull: "content",
  updatePull: "content",
  markReady: "content",
  createComment: "content",
  updateComment: "content",
};

/** The same doors, with every write waiting for its turn. */
function paced(workspace: Workspace, clock: Clock, signal: AbortSignal): Workspace {
  const take = {
    content: createPace(content, clock, signal),
    other: createPace(other, clock, signal),
  };
  return new Proxy(workspace, {
    get(target, name: keyof Workspace) {
      const door = target[name] as (...args: unknown[]) => Promise<unknown>;
      const kind = writes[name];
      if (!kind) return door;
      return async (...args: unknown[]) => {
        await take[kind]();
        return await door(...args);
      };
    },
  });
}

type Rate = { burst: number; perSecond: number; perHour: number };

/** Two token buckets: a burst refilled each second, and the hour's share. */
function createPace(rate: Rate, clock: Clock, signal: AbortSignal): () => Promise<void> {
  const buckets = [
    { left: rate.burst, most: rate.burst, perMs: rate.perSecond / 1000, at: clock.now() },
    { left: rate.perHour, most: rate.perHour, perMs: rate.perHour / 3_600_000, at: clock.now() },
  ];
  return async () => {
    for (;;) {
      const now = clock.now();
      for (const bucket of buckets) {
        bucket.left = Math.min(bucket.most, bucket.left + (now - bucket.at) * bucket.perMs);
        bucket.at = now;
      }
      const wait = Math.max(...buckets.map((bucket) => (1 - bucket.left) / bucket.perMs));
      if (wait <= 0 || signal.aborted) break;
      await clock.sleep(Math.ceil(wait), signal);
    }
    for (const bucket of buckets) bucket.left -= 1;
  };
}
