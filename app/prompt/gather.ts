import { and, desc, eq, lt } from "drizzle-orm";
import { type Remark, remarksMax, type Workspace } from "../github/app.ts";
import { allows, type Permissions } from "../github/permission.ts";
import type { Database } from "../state/database.ts";
import type { Pipeline } from "../state/pipeline.ts";
import type { Run } from "../state/run.ts";
import { runs } from "../state/schema.ts";
import { parseCommand } from "../text/command.ts";
import { visible } from "../text/mention.ts";
import { type RunView, viewRun } from "../view/run-view.ts";
import { count } from "../view/wording.ts";
import { composePrompt, type Material, type Review } from "./compose.ts";

/** Runs before it that are told of; older ones are in the branch's history. */
const earlierMax = 10;
const draftMsMax = 7 * 24 * 3_600_000;
/** GitHub's times are in whole seconds. */
const secondMs = 1_000;

type Parts = { db: Database; workspace: Workspace; permissions: Permissions; now: number };

/**
 * Puts a run's prompt together when its turn on the pipeline has come: what was asked, and what people
 * and checks have said since the run before it. Gives also where the branch stands now.
 */
export async function gatherPrompt(
  parts: Parts,
  run: Run,
  pipeline: Pipeline,
): Promise<{ prompt: string; handover: string; head: string | null; notes: string[] }> {
  const { db, workspace } = parts;
  const before = await db.read
    .select()
    .from(runs)
    .where(and(eq(runs.pipelineId, pipeline.id), lt(runs.number, run.number)))
    .orderBy(desc(runs.number))
    .limit(earlierMax);
  // One that never started has told its agent nothing, so it hides nothing.
  const told = before.find((other) => other.startedAt !== null) ?? null;
  const since = told?.askedAt ?? 0;
  const head = await workspace.branchHead(run.repository, pipeline.branch);
  const views = await viewsOf(parts, before);
  const corrective = run.kind === "fix";
  const leftOut: string[] = [];
  const remarks = await heard(parts, run, pipeline, since, leftOut);
  const material: Material = {
    request: run.prompt,
    branch: pipeline.branch,
    base: pipeline.baseBranch,
    moved: await movedBy(parts, run, before[0] ?? null, head),
    earlier: before.toReversed().map((other) => earlierRun(other, views.get(other.id))),
    reviews: corrective ? remarks.reviews : [],
    checks: corrective && head ? await workspace.failedChecks(run.repository, head) : [],
    receipts: (corrective && told && views.get(told.id)?.receipts) || [],
    thread: remarks.thread,
    leftOut,
  };
  const { text, handover, dropped } = composePrompt(material);
  // Again what the last run was told, word for word; only of the runs before there is more to tell.
  const repeated =
    run.kind === "retry"
      ? before.find((other) => other.composed !== null && other.prompt === run.prompt)
      : null;
  if (repeated?.composed)
    return { prompt: repeated.composed, handover, head, notes: [...material.moved] };
  return { prompt: text, handover, head, notes: [...material.moved, ...leftOut, ...dropped] };
}

/** What was said between the last run and the wish, by people with write permission. */
async function heard(
  parts: Parts,
  run: Run,
  pipeline: Pipeline,
  since: number,
  leftOut: string[],
): Promise<{ reviews: Review[]; thread: { by: string; body: string }[] }> {
  const { workspace } = parts;
  const { repository } = run;
  const pull = pipeline.pullNumber;
  const threads = [...new Set([pipeline.issue, ...(pull === null ? [] : [pull])])];
  const comments: Remark[] = [];
  for (const number of threads)
    comments.push(...(await workspace.comments(repository, number, since)));
  const corrective = run.kind === "fix" && pull !== null;
  const reviews = corrective ? await readReviews(workspace, repository, pull, since) : [];
  if (comments.length >= remarksMax) leftOut.push("Part of a very long thread.");
  const counted = { outsiders: 0, edited: 0 };
  const take = async (all: Remark[]) =>
    await taken(
      parts,
      run,
      all.toSorted((a, b) => a.at - b.at),
      since,
      counted,
    );
  const kept = { reviews: await take(reviews), thread: await take(comments) };
  if (counted.outsiders > 0)
    leftOut.push(`${count(counted.outsiders, "comment")} by people without write permission.`);
  if (counted.edited > 0)
    leftOut.push(`${count(counted.edited, "comment")} edited after this run was asked for.`);
  return kept;
}

/** Reviews and their comments; a comment is said when its review is sent, not when it was drafted. */
async function readReviews(
  workspace: Workspace,
  repository: string,
  pull: number,
  since: number,
): Promise<Remark[]> {
  const reviews = await workspace.reviews(repository, pull);
  const sentAt = new Map(reviews.map((review) => [review.review, review.at]));
  // Drafted long before, sent just now: asked for from a while before.
  const comments = await workspace.reviewComments(
    repository,
    pull,
    Math.max(0, since - draftMsMax),
  );
  return [...reviews, ...comments.map((one) => ({ ...one, at: sentAt.get(one.review) ?? one.at }))];
}

async function taken(
  { permissions }: Parts,
  run: Run,
  remarks: Remark[],
  since: number,
  counted: { outsiders: number; edited: number },
): Promise<Review[]> {
  const kept: Review[] = [];
  const people = [...new Set(remarks.filter((one) => !one.bot).map((one) => one.by))];
  const rights = await Promise.all(
    people.map((by) => permissions.of(run.workspace, run.repository, by)),
  );
  const mayWrite = new Set(people.filter((_, i) => allows(rights[i] ?? "none", "write")));
  // What GitHub dates with the second of the wish was there when it was made.
  const until = run.askedAt + secondMs;
  for (const remark of remarks) {
    const saidAt = Math.max(remark.at, remark.editedAt);
    if (remark.bot || remark.at > until || saidAt <= since - secondMs) continue;
    const body = visible(remark.body).trim();
    // A command is a run of its own.
    if (!body || parseCommand(remark.body)) continue;
    if (!mayWrite.has(remark.by)) counted.outsiders += 1;
    else if (remark.editedAt > until) counted.edited += 1;
    else kept.push({ by: remark.by, body, spot: remark.spot });
  }
  return kept;
}

/** What people did to the branch between the last run and this one. */
async function movedBy(
  { workspace }: Parts,
  run: Run,
  last: Run | null,
  head: string | null,
): Promise<string[]> {
  if (!last?.headSha || !head || last.headSha === head) return [];
  const moved = await workspace.compare(run.repository, last.headSha, head);
  if (moved?.status === "identical") return [];
  const at = head.slice(0, 7);
  if (moved?.status === "ahead")
    return [
      `Since run ${last.number} somebody pushed ${count(moved.ahead, "commit")} to it; it stands at ${at} and this run starts from there.`,
    ];
  return [
    `Since run ${last.number} its history was rewritten (a force-push); it stands at ${at} and this run starts from there.`,
  ];
}

/** What is known of each run, by its id. */
async function viewsOf({ db, now }: Parts, all: Run[]): Promise<Map<string, RunView>> {
  const views = new Map<string, RunView>();
  for (const { id } of all) {
    const view = await viewRun(db, id, now);
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
