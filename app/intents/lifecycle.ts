import { endPipeline, endPipelines } from "../dispatch/cancel.ts";
import type {
  InstallationEvent,
  IssueGoneEvent,
  PullChangeEvent,
  PullEndEvent,
  PushEvent,
  RemovalEvent,
  RepositoryEvent,
} from "../github/github-event.ts";
import type { Repository } from "../github/objects.ts";
import type { Tx } from "../state/database.ts";
import {
  findByBranch,
  findByPull,
  findOpen,
  openPipelines,
  type Pipeline,
  recordHead,
  recordPull,
  renameRepository,
  reopen,
} from "../state/pipeline.ts";
import { giveUpAll, moveReports, request, requestOnce } from "../state/report.ts";
import { liveStates, openRuns, type Run, renameRuns, requestPositions } from "../state/run.ts";
import { forgetSchedules, forgetWorkspaceSchedules } from "../state/schedule.ts";
import { recordWorkspace } from "../state/workspace.ts";
import { type Effect, type Parts, recordIntent, sourceOf } from "./intent.ts";
import { refreshSchedules } from "./schedule.ts";

// What pipelines stand on has changed: pull requests, branches, issues, repositories, installations.

const ended = (run: Run | undefined): Effect => ({
  outcome: "ended",
  run: run ?? null,
  reply: null,
});

/** Merged or closed, the pull request ends its pipeline and what is queued or under way there. */
export async function pullClosed(parts: Parts, guid: string, event: PullEndEvent) {
  const found = await findByPull(parts.db.read, event.repository.id, event.pull);
  if (found?.state !== "open") return;
  const { pull, sender } = event;
  // Not the event's word: by now somebody may have opened it again.
  const now = await pullNow(parts, event);
  if (now.state !== "closed") return;
  const { merged } = now;
  const source = sourceOf("pull", guid, event, {
    thread: pull,
    request: { type: "pull", pull, change: merged ? "merged" : "closed" },
  });
  await recordIntent(parts, source, async (tx) => {
    const cause = { by: "pull" as const, login: sender.login, merged };
    const [stopped] = await endPipeline(tx, found, cause);
    await recordPull(tx, found.id, { pullState: "closed" });
    if (merged && found.deleteBranch && !found.adopted) await requestBranchDeleted(tx, found);
    return ended(stopped);
  });
}

const pullNow = ({ github }: Parts, { workspace, repository, pull }: PullEndEvent) =>
  github.installation(workspace).pullDetails(repository.fullName, pull);

async function requestBranchDeleted(tx: Tx, pipeline: Pipeline) {
  const { id, workspace, repository, branch, headSha: sha } = pipeline;
  const wanted = { kind: "branch" as const, repository, branch, sha, pipelineId: id };
  await requestOnce(tx, { workspace, subject: id, wanted });
}

/** Opened again, the pull request revives its pipeline, unless its issue has another by now. */
export async function pullReopened(parts: Parts, guid: string, event: PullEndEvent) {
  const found = await findByPull(parts.db.read, event.repository.id, event.pull);
  if (found?.state !== "closed" || (await pullNow(parts, event)).state === "closed") return;
  const { pull } = event;
  const source = sourceOf("pull", guid, event, {
    thread: pull,
    request: { type: "pull", pull, change: "reopened" },
  });
  await recordIntent(parts, source, async (tx) => {
    const other = await findOpen(tx, found.repositoryId, found.issue);
    if (!other) await reopen(tx, found, "pull");
    return ended(undefined);
  });
}

/** A pull request that changes trimo.yml gets a check of it; a pipeline's own is linked to it. */
export async function pullChanged(parts: Parts, _guid: string, event: PullChangeEvent) {
  const { repository, workspace, pull, sha, base, branch, nodeId, draft } = event;
  await parts.db.write(async (tx) => {
    await requestConfigCheck(tx, workspace, repository, { sha, base });
    if (branch === null) return;
    const pipeline = await findByBranch(tx, repository.id, branch);
    // Somebody opened the pull request of a pipeline that had none.
    if (pipeline?.pullNumber !== null) return;
    const pullState = draft ? ("draft" as const) : ("open" as const);
    await recordPull(tx, pipeline.id, { pullNumber: pull, pullNodeId: nodeId, pullState });
    const report = { workspace, subject: pipeline.id, wanted: { kind: "pull" as const } };
    await request(tx, report, { urgent: true });
  });
}

async function requestConfigCheck(
  tx: Tx,
  workspace: number,
  repository: Repository,
  { sha, base }: { sha: string; base: string | null },
) {
  const wanted = { kind: "config" as const, repository: repository.fullName, sha, base };
  await requestOnce(tx, { workspace, subject: `${repository.id}:${sha}`, wanted });
}

/** Commits on the default branch may change trimo.yml; on a pipeline's branch they are its new head. */
export async function pushed(parts: Parts, guid: string, event: PushEvent) {
  const { repository, workspace, branch, sha } = event;
  if (branch === repository.defaultBranch) {
    if (!event.touchesConfig || sha === null) return;
    await parts.db.write((tx) =>
      requestConfigCheck(tx, workspace, repository, { sha, base: null }),
    );
    return await refreshSchedules(parts, workspace, repository);
  }
  const pipeline = await findByBranch(parts.db.read, repository.id, branch);
  if (!pipeline?.branchReady) return;
  // Trimo's own pushes are reported by the daemon, in order.
  if (sha !== null && event.sender.login === (await parts.github.author()).name) return;
  // Not the event's word: it may come late, and would take the branch back.
  const head = await parts.github.installation(workspace).branchHead(repository.fullName, branch);
  if (head === null)
    return sha === null ? await branchGone(parts, guid, event, pipeline) : undefined;
  await parts.db.write(async (tx) => {
    const open = await openRuns(tx, pipeline.id);
    const live = open.some((run) => liveStates.some((state) => state === run.state));
    if (!live) await recordHead(tx, pipeline.id, head);
  });
}

/** A pull request goes with its branch, and says so itself; without one the pipeline ends here. */
async function branchGone(parts: Parts, guid: string, event: PushEvent, pipeline: Pipeline) {
  if (pipeline.pullNumber !== null) return;
  const { branch } = pipeline;
  const source = sourceOf("repository", guid, event, {
    thread: pipeline.issue,
    request: { type: "branch_deleted", branch },
  });
  await recordIntent(parts, source, async (tx) => {
    const cause = { by: "branch" as const, login: event.sender.login };
    const [stopped] = await endPipeline(tx, pipeline, cause);
    return ended(stopped);
  });
}

/** An issue that is gone ends its pipeline. */
export async function issueGone(parts: Parts, guid: string, event: IssueGoneEvent) {
  const { issue, change } = event;
  const pipeline = await findOpen(parts.db.read, event.repository.id, issue.number);
  if (!pipeline || pipeline.issue !== issue.number) return;
  const source = sourceOf("repository", guid, event, {
    thread: pipeline.issue,
    request: { type: "issue", change },
  });
  await recordIntent(parts, source, async (tx) => {
    const [stopped] = await endPipeline(tx, pipeline, { by: "issue", change });
    return ended(stopped);
  });
}

/** A repository with another name or owner keeps its pipelines; one that is gone ends them. */
export async function repositoryChanged(parts: Parts, guid: string, event: RepositoryEvent) {
  const { repository, workspace, change } = event;
  const source = sourceOf("repository", guid, event, {
    thread: null,
    request: { type: "repository", change, name: repository.fullName },
  });
  await recordIntent(parts, source, async (tx) => {
    const open = await openPipelines(tx, { repositoryId: repository.id });
    if (change === "archived" || change === "deleted") {
      const [stopped] = await endPipelines(tx, open, { by: "repository", change });
      await forgetSchedules(tx, [repository.id]);
      return ended(stopped);
    }
    const named = { repository: repository.fullName, workspace };
    const before = new Map(open.map((one) => [`${one.workspace} ${one.repository}`, one]));
    for (const one of before.values()) await moveReports(tx, one, named);
    await renameRepository(tx, repository.id, named);
    for (const pipeline of open) await renameRuns(tx, pipeline.id, named);
    return ended(undefined);
  });
  if (change === "renamed" || change === "transferred")
    await refreshSchedules(parts, workspace, repository);
}

/** The App was installed, suspended or uninstalled: with it gone, there is nobody left to tell. */
export async function installationChanged(parts: Parts, _guid: string, event: InstallationEvent) {
  const { workspace: id, account, state } = event;
  await parts.db.write(async (tx) => {
    await recordWorkspace(tx, { id, account, state });
    await requestPositions(tx, id);
    tx.wake("reports", id);
    tx.wake("queue");
    if (state !== "gone") return;
    const open = await openPipelines(tx, { workspace: id });
    await endPipelines(tx, open, { by: "uninstalled", account });
    await forgetWorkspaceSchedules(tx, id);
    await giveUpAll(tx, id, "the App was uninstalled");
  });
}

/** The App was taken off repositories: their pipelines end. */
export async function repositoriesRemoved(parts: Parts, _guid: string, event: RemovalEvent) {
  await parts.db.write(async (tx) => {
    for (const repositoryId of event.ids) {
      // A repository that moved to another installation has gone on there.
      const all = await openPipelines(tx, { repositoryId });
      const here = all.filter((pipeline) => pipeline.workspace === event.workspace);
      await endPipelines(tx, here, { by: "repository", change: "removed" });
    }
    await forgetSchedules(tx, event.ids);
  });
}
