import { GitHubError } from "../github/error.ts";
import type { Installation } from "../github/installation.ts";
import type { Pull } from "../github/objects.ts";
import {
  beginClosing,
  close,
  findPipeline,
  type Pipeline,
  recordPull,
  reopen,
} from "../state/pipeline.ts";
import { markTried, requestOnce } from "../state/report.ts";
import { isOver, openRuns, type Run, runsOf } from "../state/run.ts";
import { pullBody, pullTitle } from "../view/pull-body.ts";
import { type RunView, viewRun } from "../view/run-view.ts";
import { done, type Turn, type Written } from "./turn.ts";

/** The most runs whose words go into a pull request. */
const viewsMax = 20;

/** Writes a pipeline's pull request as its runs have it: opened, told, made ready or closed. */
export async function writePull(turn: Turn): Promise<Written> {
  const { db, report } = turn;
  const pipeline = await findPipeline(db.read, report.subject);
  if (!pipeline || pipeline.state === "closed") return done(turn);
  if (pipeline.state === "closing") return await closeUnchanged(turn, pipeline);
  // Somebody's own pull request: nothing of it is Trimo's to write. And without a branch there is none.
  if (pipeline.adopted || !pipeline.branchReady) return done(turn);
  const runs = await runsOf(db.read, pipeline.id);
  const settled = runs.length > 0 && runs.every((run) => isOver(run.state));
  const finished = settled && (runs.at(-1)?.state === "succeeded" || pipeline.done);
  if (finished && !runs.some((run) => run.changed)) {
    const closing = await startClosing(turn, pipeline);
    if (closing) return await closeUnchanged(turn, closing);
  }
  const pull = await ensurePull(turn, pipeline, runs, finished);
  if (finished && pull.pullState === "draft" && pull.pullNodeId) {
    await turn.installation.markReady(pull.pullNodeId);
    await db.write((tx) => recordPull(tx, pipeline.id, { pullState: "open" }));
  }
  return done(turn);
}

async function ensurePull(
  turn: Turn,
  pipeline: Pipeline,
  runs: Run[],
  finished: boolean,
): Promise<Pipeline> {
  const { installation, report, links } = turn;
  const { repository, branch, pullNumber } = pipeline;
  const views = await viewsOf(turn, runs);
  const told = { pipeline, runs, views };
  if (pullNumber !== null) {
    const before = await installation.pull(repository, pullNumber);
    const body = pullBody(before.body, told, links);
    if (before.state !== "closed" && body !== before.body)
      await installation.updatePull(repository, pullNumber, { body });
    return await withPull(turn, pipeline, before);
  }
  const ready = finished && (pipeline.pullRequest === "ready" || pipeline.done);
  const wanted = pipeline.pullRequest === "draft" || ready;
  if (!wanted || !pipeline.headSha) return pipeline;
  const found = report.triedAt === null ? null : await installation.findPull(repository, branch);
  if (found) return await withPull(turn, pipeline, found);
  await turn.db.write((tx) => markTried(tx, report));
  const body = pullBody(await readTemplate(installation, pipeline), told, links);
  const pull = await createPull(installation, repository, {
    title: pullTitle(pipeline),
    body,
    head: branch,
    base: pipeline.baseBranch,
    draft: pipeline.pullRequest === "draft",
  });
  return await withPull(turn, pipeline, pull);
}

/** Where a plan has no drafts, it is opened ready: the checks need a place. */
async function createPull(
  installation: Installation,
  repository: string,
  pull: Parameters<Installation["createPull"]>[1],
): Promise<Pull> {
  try {
    return await installation.createPull(repository, pull);
  } catch (error) {
    const noDrafts = error instanceof GitHubError && error.status === 422 && pull.draft;
    if (!noDrafts || !/draft/i.test(error.message)) throw error;
    return await installation.createPull(repository, { ...pull, draft: false });
  }
}

/** GitHub does not take the pull request: who waits for it is told why. */
export async function pullRefused(turn: Turn, { message: why }: GitHubError) {
  const { db, report } = turn;
  const pipeline = await findPipeline(db.read, report.subject);
  if (!pipeline || pipeline.pullNumber !== null) return;
  const { id, workspace, repository, issue, branch } = pipeline;
  const reply = { kind: "pull_refused" as const, branch, why };
  const wanted = { kind: "reply" as const, repository, issue, reply };
  await db.write((tx) => requestOnce(tx, { workspace, subject: `unopened:${id}`, wanted }));
}

async function viewsOf({ db, now }: Turn, runs: Run[]): Promise<RunView[]> {
  const views: RunView[] = [];
  for (const run of runs.slice(-viewsMax)) {
    const view = await viewRun(db.read, run.id, now);
    if (view) views.push(view);
  }
  return views;
}

/** Where GitHub looks for a template of pull requests, in its order; the name in any case. */
const templateFolders = [".github", "docs"];
const rootTemplates = ["pull_request_template.md", "PULL_REQUEST_TEMPLATE.md"];

/** The repository's own words for a new pull request, from its base branch; empty where it has none. */
async function readTemplate(installation: Installation, pipeline: Pipeline): Promise<string> {
  const { repository, baseBranch } = pipeline;
  for (const folder of templateFolders) {
    const names = await installation.list(repository, folder, baseBranch);
    const name = names.find((one) => /^pull_request_template\.(md|txt)$/i.test(one));
    const text = name && (await installation.file(repository, `${folder}/${name}`, baseBranch));
    if (text) return text;
  }
  for (const name of rootTemplates) {
    const text = await installation.file(repository, name, baseBranch);
    if (text !== null) return text;
  }
  return "";
}

async function withPull({ db }: Turn, pipeline: Pipeline, pull: Pull): Promise<Pipeline> {
  const changes = { pullNumber: pull.number, pullNodeId: pull.nodeId, pullState: pull.state };
  await db.write((tx) => recordPull(tx, pipeline.id, changes));
  return { ...pipeline, ...changes };
}

/** From here on nobody finds the pipeline any more; null: a run was added meanwhile. */
async function startClosing({ db }: Turn, pipeline: Pipeline): Promise<Pipeline | null> {
  return await db.write(async (tx) =>
    (await openRuns(tx, pipeline.id)).length > 0 ? null : await beginClosing(tx, pipeline),
  );
}

/** Nothing changed: the draft is closed with a sentence, and its branch deleted. */
async function closeUnchanged(turn: Turn, pipeline: Pipeline): Promise<Written> {
  const { db, installation } = turn;
  const { id, workspace, repository, branch, pullNumber } = pipeline;
  // Somebody may have pushed to it meanwhile; then it is theirs.
  const head = await installation.branchHead(repository, branch);
  const untouched = head !== null && [pipeline.openingSha, pipeline.baseSha].includes(head);
  if (head !== null && !untouched) {
    await db.write((tx) => reopen(tx, pipeline, "push"));
    return done(turn);
  }
  if (pullNumber !== null)
    await installation.updatePull(repository, pullNumber, { state: "closed" });
  if (untouched) await installation.deleteBranch(repository, branch);
  await db.write(async (tx) => {
    const pullState = pullNumber === null ? null : ("closed" as const);
    await close(tx, pipeline, { by: "unchanged" }, { pullState });
    if (pullNumber === null) return;
    const reply = { kind: "closed_unchanged" as const };
    const wanted = { kind: "reply" as const, repository, issue: pullNumber, reply };
    await requestOnce(tx, { workspace, subject: `closed:${id}`, wanted });
  });
  return done(turn);
}
