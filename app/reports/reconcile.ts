import { GitHubError } from "../github/app.ts";
import { backoffMs } from "../protocol/clock.ts";
import {
  dirtyWorkspaces,
  dueReports,
  giveUp,
  lastWritten,
  markFailed,
  markWritten,
  nextDue,
  postpone,
  type Report,
} from "../state/report.ts";
import { stateOfWorkspace } from "../state/workspace.ts";
import { type Paced, paced } from "./pace.ts";
import { NotYet, type Parts, type Turn } from "./turn.ts";
import { writeCheck, writeConfigCheck } from "./write-check.ts";
import { writeComment, writeReply } from "./write-comment.ts";
import { composeAlone, writePrompt } from "./write-prompt.ts";
import {
  deleteMergedBranch,
  failUnopened,
  sayUnopened,
  writePipeline,
  writePull,
} from "./write-pull.ts";

/** How often a refusal that is not passing is tried again before it is given up. */
const refusalsMax = 3;
/** GitHub counts the writes of a minute. */
const restMs = 60_000;
/** How long progress waits when GitHub's hour is nearly used up. */
const lowPauseMs = 60_000;

/** Makes GitHub look as the rows say: one writer a workspace, until `signal` aborts. */
export async function runReports(parts: Parts, writesPerMinute: number, signal: AbortSignal) {
  const writers = new Map<number, Promise<void>>();
  // Kept while the process lives: a pace begun anew at each wake would be none.
  const workspaces = new Map<number, Paced>();
  const paceOf = async (id: number) => {
    const known = workspaces.get(id);
    if (known) return known;
    const rested = parts.clock.now() - (await lastWritten(parts.db, id)) > restMs;
    const workspace = parts.github.workspace(id);
    const made = paced(workspace, writesPerMinute, rested, parts.clock, signal);
    workspaces.set(id, made);
    return made;
  };
  const again = new Set<number>();
  const ensure = (workspace: number) => {
    if (signal.aborted) return;
    // It may be on its way out, having just found nothing: then it is begun again.
    if (writers.has(workspace)) return void again.add(workspace);
    const writer = paceOf(workspace)
      .then((pace) => writeWorkspace(parts, workspace, pace, signal))
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
async function writeWorkspace(parts: Parts, id: number, pace: Paced, signal: AbortSignal) {
  const { db, clock, wake } = parts;
  for (;;) {
    const stop = new AbortController();
    const nudge = (which: number) => which === id && stop.abort();
    wake.on("reports", nudge);
    try {
      // Suspended: every request would be refused, and what is refused thrice is given up.
      if ((await stateOfWorkspace(db.read, id)) === "suspended") return;
      const ready = kinds.filter((kind) => pace.waitMs(spends[kind]) <= 0);
      const due = await dueReports(db, id, clock.now(), ready);
      for (const report of due) {
        if (signal.aborted) return;
        const { workspace } = pace;
        // Comments that wait for GitHub's pace do not keep check runs waiting.
        if (pace.waitMs(spends[report.kind]) > 0) continue;
        if (!report.urgent && pace.low()) {
          await postpone(db, report, clock.now() + lowPauseMs);
          continue;
        }
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
      // What is due waits for GitHub's pace, if for anything; the rest for its time.
      const turns = [pace.waitMs("content"), pace.waitMs("other")].filter((ms) => ms > 0);
      const late = at <= clock.now();
      const wait = late ? Math.min(...turns, 1_000) * Math.sign(turns.length) : at - clock.now();
      await clock.sleep(
        Math.min(Math.max(5, wait), 30_000),
        AbortSignal.any([signal, stop.signal]),
      );
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
    if (error instanceof NotYet) {
      await postpone(db, report, error.dueAt);
      return 0;
    }
    if (!(error instanceof GitHubError)) {
      // A fault of ours in one report must not keep all others of the workspace from being written.
      log.error({ err: error, kind: report.kind, subject: report.subject }, "a report failed here");
      const later = backoffMs(report.attempts, 5_000, 3_600_000, Math.random());
      await markFailed(db, report, clock.now() + later, String(error));
      return 0;
    }
    const about = { kind: report.kind, subject: report.subject, status: error.status };
    if (!error.passing && report.attempts + 1 >= refusalsMax) {
      log.error({ ...about, err: error }, "a report is given up: GitHub refuses it");
      await giveUp(db, report, error.message);
      if (report.kind === "pipeline") await failUnopened(turn, error.message);
      if (report.kind === "pull") await sayUnopened(turn, error.message);
      if (report.kind === "prompt") await composeAlone(turn, error.message);
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

/** What a report of each kind mostly writes. */
const spends: Record<Report["kind"], "content" | "other"> = {
  reaction: "content",
  pipeline: "other",
  pull: "content",
  prompt: "other",
  check: "other",
  config: "other",
  comment: "content",
  reply: "content",
  label: "other",
  branch: "other",
};
const kinds = Object.keys(spends) as Report["kind"][];

/** Each gives the time before which the object need not be written again. */
const writers: Record<Report["kind"], (turn: Turn) => Promise<number>> = {
  reaction: async (turn) => {
    const data = turn.report.data as {
      repository: string;
      comment: number;
      where: "comment" | "line";
    };
    await turn.workspace.react(data.repository, data.comment, data.where);
    return turn.now;
  },
  label: async (turn) => {
    const data = turn.report.data as { repository: string; issue: number; label: string };
    await turn.workspace.removeLabel(data.repository, data.issue, data.label);
    return turn.now;
  },
  reply: writeReply,
  pipeline: writePipeline,
  pull: writePull,
  branch: deleteMergedBranch,
  prompt: writePrompt,
  check: writeCheck,
  config: writeConfigCheck,
  comment: writeComment,
};
