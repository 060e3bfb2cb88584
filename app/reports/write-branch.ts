import { GitHubError } from "../github/error.ts";
import type { Installation } from "../github/installation.ts";
import { crashAt } from "../protocol/crash.ts";
import type { Cause } from "../state/cause.ts";
import {
  close,
  findByName,
  findPipeline,
  type Pipeline,
  recordBase,
  recordBranch,
} from "../state/pipeline.ts";
import { request, type WantedOf } from "../state/report.ts";
import { endCancelled, openRuns } from "../state/run.ts";
import { openingMessage } from "../view/pull-body.ts";
import { done, type Turn, type Written } from "./turn.ts";

/** How many names are tried when a branch of the wanted one exists already. */
const branchNamesMax = 20;
/** How long a merged branch waits for its last runs to end, in milliseconds. */
const runsEndMs = 5_000;

/** Makes a pipeline's branch with its opening commit: its first run waits for it, so it goes before all else. */
export async function writeBranch(turn: Turn): Promise<Written> {
  const { db, report } = turn;
  const pipeline = await findPipeline(db.read, report.subject);
  if (pipeline?.state !== "open") return done(turn);
  if (!pipeline.branchReady) await openBranch(turn, pipeline);
  const { id, workspace, createdAt } = pipeline;
  // As old as the request: what is made for it goes before what was requested later.
  const wanted = { kind: "pull" as const };
  await db.write((tx) =>
    request(tx, { workspace, subject: id, wanted }, { urgent: true, at: createdAt }),
  );
  return done(turn);
}

/** Makes the branch. */
async function openBranch(turn: Turn, pipeline: Pipeline) {
  const { db, installation } = turn;
  const { id, repository, baseBranch } = pipeline;
  const baseSha = pipeline.baseSha ?? (await installation.branchHead(repository, baseBranch));
  // Believed as any refusal is: for a moment GitHub may not find what is there.
  if (!baseSha) throw new GitHubError(404, `The branch ${baseBranch} has no commit`, 0);
  // Stored first: with the same base the opening commit is the same, however often it is asked for.
  await db.write((tx) => recordBase(tx, id, baseSha));
  if (pipeline.pullRequest === "draft") return await openWithCommit(turn, pipeline, baseSha);
  const branch = await freeName(turn, pipeline);
  await recordOpened(turn, pipeline, { branch, openingSha: null, headSha: null });
}

async function openWithCommit(turn: Turn, pipeline: Pipeline, baseSha: string) {
  const { installation, github } = turn;
  const { repository } = pipeline;
  const { tree } = await installation.commit(repository, baseSha);
  const sha = await installation.createCommit(repository, {
    message: openingMessage(pipeline),
    tree,
    parent: baseSha,
    date: new Date(pipeline.createdAt).toISOString(),
    author: await github.author(),
  });
  crashAt("app: the opening commit is made");
  for (const branch of namesFor(pipeline)) {
    if (await isTaken(turn, pipeline, branch)) continue;
    if (!(await makeBranch(installation, repository, branch, sha))) continue;
    crashAt("app: the branch is made");
    return await recordOpened(turn, pipeline, { branch, openingSha: sha, headSha: sha });
  }
  throw tooManyBranches(pipeline);
}

/** Whether the branch is Trimo's now, made just now or by a request whose answer was lost. */
async function makeBranch(
  installation: Installation,
  repository: string,
  branch: string,
  sha: string,
): Promise<boolean> {
  const made = await installation.createBranch(repository, branch, sha);
  return made === "created" || (await installation.branchHead(repository, branch)) === sha;
}

/** Its runs can be claimed, and their checks have a place. */
async function recordOpened(
  { db }: Turn,
  { id }: Pipeline,
  branch: Pick<Pipeline, "branch" | "openingSha" | "headSha">,
) {
  await db.write(async (tx) => {
    await recordBranch(tx, id, branch);
    for (const { id: subject, workspace, createdAt } of await openRuns(tx, id)) {
      const report = { workspace, subject, wanted: { kind: "check" as const } };
      await request(tx, report, { urgent: true, at: createdAt });
    }
  });
}

/** The pipeline's branch name, then the same with a number behind it. */
function namesFor({ branch }: Pipeline): string[] {
  const numbers = Array.from({ length: branchNamesMax - 2 }, (_, i) => i + 2);
  return [branch, ...numbers.map((n) => `${branch}-${n}`)];
}

/** Whether another pipeline, perhaps one that has ended, has the branch's name. */
async function isTaken({ db }: Turn, pipeline: Pipeline, branch: string): Promise<boolean> {
  const other = await findByName(db.read, pipeline.repositoryId, branch);
  return other !== null && other.id !== pipeline.id;
}

async function freeName(turn: Turn, pipeline: Pipeline): Promise<string> {
  for (const name of namesFor(pipeline)) {
    const free = (await turn.installation.branchHead(pipeline.repository, name)) === null;
    if (free && !(await isTaken(turn, pipeline, name))) return name;
  }
  throw tooManyBranches(pipeline);
}

const tooManyBranches = ({ branch }: Pipeline) =>
  new GitHubError(422, `${branchNamesMax} branches named like ${branch} exist already`, 0);

/** GitHub does not let Trimo make the branch: its runs would wait for ever. */
export async function branchRefused(turn: Turn, { status, message: why }: GitHubError) {
  const pipeline = await findPipeline(turn.db.read, turn.report.subject);
  if (!pipeline || pipeline.branchReady) return;
  const cause: Cause =
    pipeline.baseSha === null && status === 404
      ? { by: "empty" }
      : { by: "refusal", branch: pipeline.branch, why };
  await endQueued(turn, pipeline, cause);
}

async function endQueued({ db }: Turn, pipeline: Pipeline, cause: Cause) {
  await db.write(async (tx) => {
    for (const run of await openRuns(tx, pipeline.id)) await endCancelled(tx, run, cause);
    await close(tx, pipeline, cause);
  });
}

/** Deletes the branch of a merged pull request, unless somebody has pushed to it since. */
export async function deleteMergedBranch(turn: Turn): Promise<Written> {
  const { db, installation, report, now } = turn;
  const { repository, branch, sha, pipelineId } = report.wanted as WantedOf<"branch">;
  if ((await openRuns(db.read, pipelineId)).length > 0) return { later: now + runsEndMs };
  const head = await installation.branchHead(repository, branch);
  if (head !== null && head === sha) await installation.deleteBranch(repository, branch);
  return done(turn);
}
