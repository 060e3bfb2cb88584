import { GitHubError } from "../github/error.ts";
import { backoffMs } from "../protocol/clock.ts";
import { crashAt } from "../protocol/crash.ts";
import { isolated, RunningState } from "../protocol/running-state.ts";
import { refusedAgain, refusedBackoff } from "../state/refusal.ts";
import {
  dueReports,
  giveUp,
  hastenReports,
  lastWritten,
  markFailed,
  markWritten,
  nextDue,
  pendingWorkspaces,
  postpone,
} from "../state/report.ts";
import { requestPositions } from "../state/run.ts";
import { type ReportKind, reportKinds } from "../state/schema.ts";
import { stateOfWorkspace } from "../state/workspace.ts";
import { githubsWritesPerMinute, type Paced, paced, type Spend } from "./pace.ts";
import type { ReportParts, Turn, Written } from "./turn.ts";
import { branchRefused, deleteMergedBranch, writeBranch } from "./write-branch.ts";
import { writeCheck } from "./write-check.ts";
import { commentRefused, writeComment } from "./write-comment.ts";
import { writeConfigCheck } from "./write-config-check.ts";
import { removeLabel, writeReaction } from "./write-mark.ts";
import { promptRefused, writePrompt } from "./write-prompt.ts";
import { pullRefused, writePull } from "./write-pull.ts";
import { writeReply } from "./write-reply.ts";

// Makes GitHub look as the reports say, one writer a workspace:
//
//   report pending ─▶ due ─▶ written ─▶ (requested again) ─▶ due …
//                      │ ▲
//                      ▼ │ away, or refused for the first half hour
//                    failed ─▶ refused for longer: given up, what waits for it is told, and tried hourly

/** GitHub counts the writes of a minute. */
const restMs = 60_000;
/** How long progress waits when GitHub's hour is nearly used up, in milliseconds. */
const lowPauseMs = 60_000;
/** How long at most until every workspace is looked at without a wake, in milliseconds. */
const lookEveryMs = 30_000;
/** How long GitHub is left alone after it did not do what was asked, and after a fault of Trimo's own. */
const retry = { baseMs: 500, mostMs: 60_000 };
const faultRetry = { baseMs: 5_000, mostMs: 3_600_000 };
/** After a POST without an answer GitHub's lists may lag: so long until what it made is looked for. */
const lagMs = 3_000;

/** What reports of each kind mostly write. */
const spends: Record<ReportKind, Spend> = {
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

const writers: Record<ReportKind, (turn: Turn) => Promise<Written>> = {
  reaction: writeReaction,
  label: removeLabel,
  reply: writeReply,
  pipeline: writeBranch,
  pull: writePull,
  branch: deleteMergedBranch,
  prompt: writePrompt,
  check: writeCheck,
  config: writeConfigCheck,
  comment: writeComment,
};

/** What is done when a report is given up, because GitHub refuses it. */
const refused: Partial<Record<ReportKind, (turn: Turn, error: GitHubError) => Promise<void>>> = {
  pipeline: branchRefused,
  pull: pullRefused,
  prompt: promptRefused,
  comment: commentRefused,
};

/** Makes GitHub as requested until `state` stops. `writesPerMinute`: GitHub's pace, with room. */
export async function reconcile(
  parts: ReportParts,
  state: RunningState,
  writesPerMinute: number = githubsWritesPerMinute,
) {
  const { db, wake, log } = parts;
  const writing = new Map<number, { state: RunningState; ended: Promise<void> }>();
  // Kept while the process lives: a pace begun anew at each wake would be none.
  const paces = new Map<number, Paced>();
  const paceOf = async (id: number) => {
    const known = paces.get(id) ?? (await paceFor(parts, id, writesPerMinute, state.signal));
    paces.set(id, known);
    return known;
  };
  const again = new Set<number>();
  const ensure = (workspace: number) => {
    if (!state.running) return;
    const known = writing.get(workspace);
    // It may be on its way out, having just found nothing: then it is begun again.
    if (known) {
      again.add(workspace);
      return known.state.wake();
    }
    const own = new RunningState(parts.clock, state.signal);
    const ended = paceOf(workspace)
      .then((pace) => writeWorkspace(parts, { id: workspace, pace, state: own }))
      .catch((error) => log.error({ err: error, workspace }, "a report writer stopped"))
      .finally(() => {
        writing.delete(workspace);
        if (again.delete(workspace)) ensure(workspace);
      });
    writing.set(workspace, { state: own, ended });
  };
  wake.on("reports", ensure);
  const failed = { message: "reports could not be looked at; tried again in 30 s" };
  // A new process may have been mended, and its clock set.
  await isolated(log, failed, () => db.write(hastenReports));
  while (state.running) {
    await isolated(log, failed, async () => {
      for (const workspace of await pendingWorkspaces(db.read)) ensure(workspace);
    });
    await state.sleep(lookEveryMs);
  }
  wake.off("reports", ensure);
  await Promise.all([...writing.values()].map(({ ended }) => ended));
}

async function paceFor(
  { db, clock, github }: ReportParts,
  id: number,
  perMinute: number,
  signal: AbortSignal,
): Promise<Paced> {
  const rested = clock.now() - (await lastWritten(db.read, id)) > restMs;
  return paced(github.installation(id), { perMinute, rested, clock, signal });
}

type Writer = { id: number; pace: Paced; state: RunningState };

/** Writes until nothing is pending; ends then, and is begun again by the next wake. */
async function writeWorkspace(parts: ReportParts, { id, pace, state }: Writer) {
  const { db, clock } = parts;
  while (state.running) {
    const seen = state.wakes;
    // Suspended: every request would be refused, and what is refused thrice is given up.
    if ((await stateOfWorkspace(db.read, id)) === "suspended") return;
    if (await writeDue(parts, { id, pace, state }, seen)) continue;
    const at = await nextDue(db.read, id);
    if (at === null) return;
    await state.sleepUnlessWoken(seen, waitMs(pace, at - clock.now()));
  }
}

/** How long to wait: what is due waits for GitHub's pace, if for anything; the rest for its time. */
function waitMs(pace: Paced, untilDueMs: number): number {
  const turns = [pace.waitMs("content"), pace.waitMs("other")].filter((ms) => ms > 0);
  const wait = untilDueMs > 0 ? untilDueMs : Math.min(...turns, 1_000) * Math.sign(turns.length);
  return Math.min(Math.max(5, wait), lookEveryMs);
}

/** Writes what is due now; false: nothing is. Ends early when something new was requested. */
async function writeDue(
  parts: ReportParts,
  { id, pace, state }: Writer,
  seen: number,
): Promise<boolean> {
  const { db, clock } = parts;
  const kinds = reportKinds.filter((kind) => pace.waitMs(spends[kind]) <= 0);
  const due = await dueReports(db.read, { workspace: id, at: clock.now(), kinds });
  for (const report of due) {
    if (!state.running) break;
    // Comments that wait for GitHub's pace do not keep check runs waiting.
    if (pace.waitMs(spends[report.wanted.kind]) > 0) continue;
    if (!report.urgent && pace.isLow()) {
      await db.write((tx) => postpone(tx, report, tx.now + lowPauseMs));
      continue;
    }
    const { installation } = pace;
    const pauseMs = await write({ ...parts, installation, report, now: clock.now() });
    if (pauseMs > 0) await state.sleep(pauseMs);
    // A change that came meanwhile may belong before the rest.
    if (pauseMs > 0 || state.wakes !== seen) break;
  }
  return due.length > 0;
}

/** One report made true; gives how long GitHub asked the whole workspace to wait, in milliseconds. */
async function write(turn: Turn): Promise<number> {
  const { db, report } = turn;
  try {
    const result = await writers[report.wanted.kind](turn);
    crashAt("app: a report is written");
    await db.write((tx) =>
      "later" in result
        ? postpone(tx, report, result.later)
        : markWritten(tx, report, result.notBefore),
    );
    return 0;
  } catch (error) {
    return error instanceof GitHubError ? await notWritten(turn, error) : await faulty(turn, error);
  }
}

/** A fault of Trimo's in one report must not keep all others of the workspace from being written. */
async function faulty({ db, report, clock, log }: Turn, error: unknown): Promise<number> {
  const { wanted, subject, attempts } = report;
  log.error({ err: error, kind: wanted.kind, subject }, "a report could not be written");
  const pause = backoffMs(clock, attempts, faultRetry);
  await db.write((tx) => markFailed(tx, report, { dueAt: tx.now + pause, error: String(error) }));
  return 0;
}

/** GitHub did not take it: it is tried again, or given up when GitHub refuses it for good. */
async function notWritten(turn: Turn, error: GitHubError): Promise<number> {
  const { db, report, clock, log } = turn;
  const about = { kind: report.wanted.kind, subject: report.subject, status: error.status };
  if (!error.passing) return await refusedTurn(turn, error);
  const unanswered = error.status === 0 || error.status >= 500 ? lagMs : 0;
  const backoff = backoffMs(clock, report.attempts, retry);
  const pause = Math.max(error.retryAfterMs, unanswered, backoff);
  log.warn({ ...about, err: error, pause }, "a report failed and is tried again");
  const { message } = error;
  await db.write((tx) => markFailed(tx, report, { dueAt: tx.now + pause, error: message }));
  return error.retryAfterMs;
}

/** A refusal counts apart from absences, and is believed late: then what waits for the report is told. */
async function refusedTurn(turn: Turn, error: GitHubError): Promise<number> {
  const { status, message } = error;
  const { db, report, clock, log, patienceMs } = turn;
  const { kind } = report.wanted;
  const about = { kind, subject: report.subject, status, why: message };
  const { counted, isBelieved } = refusedAgain(report, clock.now(), patienceMs);
  if (!isBelieved) {
    const pause = backoffMs(clock, counted.refusals - 1, refusedBackoff(patienceMs));
    log.warn({ ...about, pause }, "GitHub refuses a report; it is tried again");
    await db.write(async (tx) => {
      await markFailed(tx, report, { dueAt: tx.now + pause, error: message, counted });
      // Whoever waits for a branch or prompt is told what it waits for.
      if (kind === "pipeline" || kind === "prompt") await requestPositions(tx, report.workspace);
    });
    return 0;
  }
  log.error(about, "GitHub refuses a report; it is tried again hourly");
  await refused[kind]?.(turn, error);
  await db.write((tx) => giveUp(tx, report, message, counted));
  return 0;
}
