import { afterQuota } from "../dispatch/continuation.ts";
import type { Installation } from "../github/installation.ts";
import { remarksMax } from "../github/issues.ts";
import type { Remark } from "../github/objects.ts";
import type { Permissions } from "../github/permission.ts";
import { allows } from "../protocol/permission.ts";
import type { Database } from "../state/database.ts";
import type { Pipeline } from "../state/pipeline.ts";
import { type Run, runsBefore } from "../state/run.ts";
import { parseCommand } from "../text/command.ts";
import { visible } from "../text/mention.ts";
import {
  editedLeftOut,
  longThread,
  outsidersLeftOut,
  pushedSince,
  rewrittenSince,
} from "../view/prompt-note.ts";
import { type RunView, viewRun } from "../view/run-view.ts";
import { composePrompt, type Material, type Review } from "./compose.ts";

/** The most runs before it that an agent is told of; older ones are in the branch's history. */
const earlierMax = 10;
/** For how long before a review is sent its comments may have been drafted, in milliseconds. */
const draftMsMax = 7 * 24 * 3_600_000;
/** GitHub's times are in whole seconds. */
const secondMs = 1_000;

type Parts = {
  db: Database;
  installation: Installation;
  permissions: Permissions;
  /** In milliseconds since 1970. */
  now: number;
};

/** A run's prompt, and what goes with it. */
export type Gathered = {
  prompt: string;
  /** What an agent without its session is told besides. */
  handoff: string;
  /** The commit the branch is at now; null: there is no branch yet. */
  head: string | null;
  /** What was left out and what has happened to the branch, in sentences. */
  notes: string[];
};

/**
 * Gathers a run's prompt when its turn on the pipeline has come: what was asked, and what people and checks
 * have said since the run before it.
 *
 * @throws GitHubError when GitHub does not show what was said.
 */
export async function gatherPrompt(parts: Parts, run: Run, pipeline: Pipeline): Promise<Gathered> {
  const { db, installation } = parts;
  const before = await runsBefore(db.read, run, earlierMax);
  // One that never started has told its agent nothing, so it hides nothing.
  const told = before.find((other) => other.startedAt !== null) ?? null;
  const head = await installation.branchHead(run.repository, pipeline.branch);
  const views = await viewsOf(parts, before);
  const corrective = run.kind === "fix";
  const remarks = await heard(parts, run, pipeline, told?.askedAt ?? 0);
  const { leftOut } = remarks;
  const material: Material = {
    request: requestOf(run, before[0] ?? null),
    branch: pipeline.branch,
    base: pipeline.baseBranch,
    moved: await movedBy(parts, run, before[0] ?? null, head),
    earlier: before.toReversed().map((other) => earlierRun(other, views.get(other.id))),
    reviews: corrective ? remarks.reviews : [],
    checks: corrective && head ? await installation.failedChecks(run.repository, head) : [],
    receipts: (corrective && told && views.get(told.id)?.receipts) || [],
    thread: remarks.thread,
    leftOut,
  };
  const { text, handoff, dropped } = composePrompt(material);
  // Again what the last run was told, word for word; only of the runs before there is more to tell.
  const repeated =
    run.kind === "retry"
      ? before.find((other) => other.composed !== null && other.prompt === run.prompt)
      : null;
  if (repeated?.composed)
    return { prompt: repeated.composed, handoff, head, notes: [...material.moved] };
  return { prompt: text, handoff, head, notes: [...material.moved, ...leftOut, ...dropped] };
}

/** What was asked; a run that goes on for another (`last`; null: there is none) is told so. */
export function requestOf(run: Run, last: Run | null): string {
  if (run.origin.by !== "quota" || !last) return run.prompt;
  return `${afterQuota(last.number)}\n\n${run.prompt}`;
}

type Heard = { reviews: Review[]; thread: Review[]; leftOut: string[] };

/** What was said between the last run and the request, by people with write permission. */
async function heard(parts: Parts, run: Run, pipeline: Pipeline, since: number): Promise<Heard> {
  const { installation } = parts;
  const leftOut: string[] = [];
  const { repository } = run;
  const pull = pipeline.pullNumber;
  const threads = [...new Set([pipeline.issue, ...(pull === null ? [] : [pull])])];
  const comments: Remark[] = [];
  for (const number of threads)
    comments.push(...(await installation.comments(repository, number, since)));
  const corrective = run.kind === "fix" && pull !== null;
  const reviews = corrective ? await readReviews(installation, repository, pull, since) : [];
  if (comments.length >= remarksMax) leftOut.push(longThread);
  const writers = await writersAmong(parts, run, [...reviews, ...comments]);
  const between = { since, askedAt: run.askedAt };
  const inReviews = thatCount(reviews, between, writers);
  const inThread = thatCount(comments, between, writers);
  const outsiders = inReviews.outsiders + inThread.outsiders;
  const edited = inReviews.edited + inThread.edited;
  if (outsiders > 0) leftOut.push(outsidersLeftOut(outsiders));
  if (edited > 0) leftOut.push(editedLeftOut(edited));
  return { reviews: inReviews.kept, thread: inThread.kept, leftOut };
}

/** Reviews and their comments; a comment is said when its review is sent, not when it was drafted. */
async function readReviews(
  installation: Installation,
  repository: string,
  pull: number,
  since: number,
): Promise<Remark[]> {
  const reviews = await installation.reviews(repository, pull);
  const sentAt = new Map(reviews.map((review) => [review.review, review.at]));
  // Drafted long before, sent just now: asked for from a while before.
  const comments = await installation.reviewComments(
    repository,
    pull,
    Math.max(0, since - draftMsMax),
  );
  return [...reviews, ...comments.map((one) => ({ ...one, at: sentAt.get(one.review) ?? one.at }))];
}

/** Who of those who wrote may write to the repository. */
async function writersAmong(
  { permissions }: Parts,
  run: Run,
  remarks: Remark[],
): Promise<Set<string>> {
  const people = [...new Set(remarks.filter((one) => !one.bot).map((one) => one.by))];
  const rights = await Promise.all(
    people.map((by) => permissions.of(run.workspace, run.repository, by)),
  );
  return new Set(people.filter((_, i) => allows(rights[i] ?? "none", "write")));
}

/**
 * The remarks that an agent is told of, oldest first: said after `since` and up to the request
 * (milliseconds since 1970), by people who may write, and no command. Pure.
 */
export function thatCount(
  remarks: Remark[],
  { since, askedAt }: { since: number; askedAt: number },
  writers: Set<string>,
): { kept: Review[]; outsiders: number; edited: number } {
  const kept: Review[] = [];
  let [outsiders, edited] = [0, 0];
  // What GitHub dates with the second of the request was there when it was made.
  const until = askedAt + secondMs;
  for (const remark of remarks.toSorted((a, b) => a.at - b.at)) {
    const saidAt = Math.max(remark.at, remark.editedAt);
    if (remark.bot || remark.at > until || saidAt <= since - secondMs) continue;
    const body = visible(remark.body).trim();
    // A command is a run of its own.
    if (!body || parseCommand(remark.body)) continue;
    if (!writers.has(remark.by)) outsiders += 1;
    else if (remark.editedAt > until) edited += 1;
    else kept.push({ by: remark.by, body, spot: remark.spot });
  }
  return { kept, outsiders, edited };
}

/** What people did to the branch between the last run and this one. */
async function movedBy(
  { installation }: Parts,
  run: Run,
  last: Run | null,
  head: string | null,
): Promise<string[]> {
  if (!last?.headSha || !head || last.headSha === head) return [];
  const moved = await installation.compare(run.repository, last.headSha, head);
  if (moved?.status === "identical") return [];
  if (moved?.status === "ahead") return [pushedSince(last.number, moved.ahead, head)];
  return [rewrittenSince(last.number, head)];
}

/** What is known of each run, by its id. */
async function viewsOf({ db, now }: Parts, all: Run[]): Promise<Map<string, RunView>> {
  const views = new Map<string, RunView>();
  for (const { id } of all) {
    const view = await viewRun(db.read, id, now);
    if (view) views.set(id, view);
  }
  return views;
}

function earlierRun(run: Run, view: RunView | undefined): Material["earlier"][number] {
  const asked = run.failureCode === "asked_question" ? run.failureDetail : null;
  return {
    number: run.number,
    prompt: run.prompt,
    result: run.state === "succeeded" && !run.changed ? "nothing to change" : run.state,
    words: asked ?? view?.words ?? null,
    agent: run.agent,
    commits: view?.commits ?? [],
    receipts: view?.receipts ?? [],
  };
}
