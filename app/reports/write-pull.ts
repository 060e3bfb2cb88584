import { GitHubError, type Workspace } from "../github/app.ts";
import { findByName, findPipeline, type Pipeline, record } from "../state/pipeline.ts";
import { markTried, want, wantOnce } from "../state/report.ts";
import { isOver, move, openRuns, type Run } from "../state/run.ts";
import { closedWithoutChange, openingMessage, pullBody, pullTitle } from "../view/pull-body.ts";
import { type RunView, runsOf, viewRun } from "../view/run-view.ts";
import { code, plain } from "../view/wording.ts";
import { NotYet, type Turn } from "./turn.ts";

/** Names that are tried when a branch of the wanted one exists already. */
const branchNamesMax = 20;

/** A pipeline's branch and its opening commit: what its first run waits for, so before all else. */
export async function writePipeline(turn: Turn): Promise<number> {
  const { db, report, now, wake } = turn;
  const found = await findPipeline(db.read, report.subject);
  if (found?.state !== "open") return now;
  const pipeline = found.openingSha === null ? await openBranch(turn, found) : found;
  if (!pipeline) return now;
  // As old as the wish: what is made for it goes before what was wished for later.
  const since = pipeline.createdAt;
  await db.write((tx) => want(tx, since, pipeline.workspace, "pull", pipeline.id, true));
  wake.emit("queue");
  return now;
}

/** A pipeline's pull request as its runs have it: opened, told, readied or closed. */
export async function writePull(turn: Turn): Promise<number> {
  const { db, report, now } = turn;
  const pipeline = await findPipeline(db.read, report.subject);
  if (!pipeline || pipeline.state === "closed") return now;
  if (pipeline.state === "closing") return await closeUnchanged(turn, pipeline);
  // Somebody's own pull request: nothing of it is ours to write. And without a branch there is none.
  if (pipeline.adopted || pipeline.openingSha === null) return now;
  const runs = await runsOf(db, pipeline.id);
  const settled = runs.length > 0 && runs.every((run) => isOver(run.state));
  const last = runs.at(-1);
  const changed = runs.some((run) => run.changed);
  const finished = last?.state === "succeeded" || pipeline.done;
  if (settled && finished && !changed && (await beginClosing(turn, pipeline.id)))
    return await closeUnchanged(turn, pipeline);
  const done = settled && finished;
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
    const free = !(await isTaken(turn, pipeline, branch));
    if (free && (await makeBranch(workspace, repository, branch, sha)))
      return await recorded(turn, pipeline.id, { branch, openingSha: sha, headSha: sha });
    branch = `${pipeline.branch}-${n}`;
  }
  throw new GitHubError(422, `${branchNamesMax} branches like ${pipeline.branch} exist already`, 0);
}

/** Whether the branch is ours now, made just now or by a request whose answer was lost. */
async function makeBranch(workspace: Workspace, repository: string, branch: string, sha: string) {
  const made = await workspace.createBranch(repository, branch, sha);
  return made === "created" || (await workspace.branchHead(repository, branch)) === sha;
}

async function recorded(turn: Turn, id: string, changes: Parameters<typeof record>[2]) {
  const { db } = turn;
  await db.write(async (tx) => {
    await record(tx, id, changes);
    for (const run of await openRuns(tx, id))
      await want(tx, run.createdAt, run.workspace, "check", run.id, true);
  });
  return await findPipeline(db.read, id);
}

/** Whether another pipeline, perhaps one that is over, has the branch's name. */
async function isTaken({ db }: Turn, pipeline: Pipeline, branch: string): Promise<boolean> {
  const other = await findByName(db.read, pipeline.repositoryId, branch);
  return other !== null && other.id !== pipeline.id;
}

async function freeName(turn: Turn, pipeline: Pipeline): Promise<string> {
  const { workspace } = turn;
  const { repository, branch } = pipeline;
  let name = branch;
  for (let n = 2; n <= branchNamesMax; n++) {
    const free = (await workspace.branchHead(repository, name)) === null;
    if (free && !(await isTaken(turn, pipeline, name))) return name;
    name = `${branch}-${n}`;
  }
  throw new GitHubError(422, `${branchNamesMax} branches like ${branch} exist already`, 0);
}

/** The pull request is merged and trimo.yml says so: gone, unless somebody has pushed to it since. */
export async function deleteMergedBranch({ db, workspace, report, now }: Turn): Promise<number> {
  const { repository, branch, sha, pipeline } = report.data as {
    repository: string;
    branch: string;
    sha: string | null;
    pipeline: string;
  };
  if ((await openRuns(db.read, pipeline)).length > 0) throw new NotYet(now + 5_000);
  const head = await workspace.branchHead(repository, branch);
  if (head !== null && head === sha) await workspace.deleteBranch(repository, branch);
  return now;
}

/** GitHub will not have the branch: its runs would wait for ever. */
export async function failUnopened(turn: Turn, why: string) {
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
  const ready = done && (pipeline.pullRequest === "ready" || pipeline.done);
  const wanted = pipeline.pullRequest === "draft" || ready;
  if (pipeline.pullNumber === null && !(wanted && pipeline.headSha)) return pipeline;
  const views = await viewRuns(turn, runs);
  if (pipeline.pullNumber !== null) {
    const before = await workspace.pull(repository, pipeline.pullNumber);
    const body = pullBody(before.body, pipeline, runs, views, links);
    if (before.state !== "closed" && body !== before.body)
      await workspace.updatePull(repository, pipeline.pullNumber, { body });
    return await withPull(turn, pipeline, before);
  }
  const found = report.tried ? await workspace.findPull(repository, branch) : null;
  if (found) return await withPull(turn, pipeline, found);
  await markTried(db, report);
  const template = await readTemplate(workspace, pipeline);
  const body = pullBody(template, pipeline, runs, views, links);
  const draft = pipeline.pullRequest === "draft";
  const title = pullTitle(pipeline);
  const pull = { title, body, head: branch, base: pipeline.baseBranch, draft };
  return await withPull(turn, pipeline, await createPull(workspace, repository, pull));
}

/** Where a plan has no drafts, it is opened ready: the checks need a place. */
async function createPull(
  workspace: Workspace,
  repository: string,
  pull: Parameters<Workspace["createPull"]>[1],
) {
  try {
    return await workspace.createPull(repository, pull);
  } catch (error) {
    const noDrafts = error instanceof GitHubError && error.status === 422 && pull.draft;
    if (!noDrafts || !/draft/i.test(error.message)) throw error;
    return await workspace.createPull(repository, { ...pull, draft: false });
  }
}

/** GitHub will not have the pull request: who waits for it is told why. */
export async function sayUnopened(turn: Turn, why: string) {
  const { db, now, report } = turn;
  const pipeline = await findPipeline(db.read, report.subject);
  if (!pipeline || pipeline.pullNumber !== null) return;
  const { repository, issue, branch } = pipeline;
  const body = `❌ GitHub refuses the pull request for ${code(branch)}: ${plain(why, 300)}`;
  const data = { repository, issue, body };
  await db.write((tx) =>
    wantOnce(tx, now, pipeline.workspace, "reply", `unopened:${pipeline.id}`, data),
  );
}

/** Runs whose words go into a pull request. */
const viewsMax = 20;

async function viewRuns({ db, now }: Turn, runs: Run[]): Promise<RunView[]> {
  const views: RunView[] = [];
  for (const run of runs.slice(-viewsMax)) {
    const view = await viewRun(db, run.id, now);
    if (view) views.push(view);
  }
  return views;
}

/** Where GitHub looks for a template of pull requests, in its order; the name in any case. */
const templateFolders = [".github", "docs"];
const rootTemplates = ["pull_request_template.md", "PULL_REQUEST_TEMPLATE.md"];

/** The repository's own words for a new pull request, from its base branch. */
async function readTemplate(workspace: Workspace, pipeline: Pipeline): Promise<string> {
  const { repository, baseBranch } = pipeline;
  for (const folder of templateFolders) {
    const names = await workspace.list(repository, folder, baseBranch);
    const name = names.find((one) => /^pull_request_template\.(md|txt)$/i.test(one));
    const text = name && (await workspace.file(repository, `${folder}/${name}`, baseBranch));
    if (text) return text;
  }
  for (const name of rootTemplates) {
    const text = await workspace.file(repository, name, baseBranch);
    if (text !== null) return text;
  }
  return "";
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
  const untouched = head !== null && [pipeline.openingSha, pipeline.baseSha].includes(head);
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
