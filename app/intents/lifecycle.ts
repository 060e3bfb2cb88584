import { endPipeline, wakeStopped } from "../dispatch/cancel.ts";
import type {
  Happening,
  IssueGone,
  PullChanged,
  PullEnded,
  Pushed,
  RepositoriesRemoved,
  RepositoryChanged,
  WorkspaceChanged,
} from "../inbound/payload.ts";
import type { Tx } from "../state/database.ts";
import {
  findByBranch,
  findByPull,
  findOpen,
  openPipelines,
  type Pipeline,
  record,
  renameRepository,
} from "../state/pipeline.ts";
import { giveUpAll, want, wantOnce } from "../state/report.ts";
import { openRuns, type Run, renameRuns, wantPlaces } from "../state/run.ts";
import { forgetSchedules, forgetWorkspace, refreshSchedules } from "../state/schedule.ts";
import { recordWorkspace } from "../state/workspace.ts";
import { type Effect, inOneStep, type Parts, placeOf } from "./intent.ts";

type Change = Exclude<Happening, { type: "labeled" | "unlabeled" | "said" | "pressed" | "ci" }>;

/** What pipelines stand on has changed: pull requests, branches, issues, repositories, installations. */
export async function takeChange(parts: Parts, guid: string, change: Change) {
  switch (change.type) {
    case "pull_closed":
      return await pullClosed(parts, guid, change);
    case "pull_reopened":
      return await pullReopened(parts, guid, change);
    case "pull_changed":
      return await checkPull(parts, change);
    case "pushed":
      return await pushed(parts, guid, change);
    case "issue_gone":
      return await issueGone(parts, guid, change);
    case "repository_changed":
      return await repositoryChanged(parts, guid, change);
    case "workspace_changed":
      return await workspaceChanged(parts, change);
    case "repositories_removed":
      return await repositoriesRemoved(parts, change);
  }
}

const ended = (reason: string, run: Run | null): Effect => ({
  outcome: "ended",
  reason,
  run,
  say: null,
});

/** Merged or closed, the pull request ends its pipeline and what is queued or under way there. */
async function pullClosed(parts: Parts, guid: string, event: PullEnded) {
  const found = await findByPull(parts.db.read, event.repository.id, event.pull);
  if (found?.state !== "open") return;
  const how = event.merged ? "merged" : "closed";
  let stopped: Run[] = [];
  await inOneStep(parts, placeOf("pull", guid, event, event.pull), async (tx, at) => {
    const by = `${event.sender.login}, with the pull request ${how}`;
    stopped = await endPipeline(tx, at, found, by);
    await record(tx, found.id, { pullState: "closed" });
    const removable = event.merged && found.deleteBranch && !found.adopted;
    if (removable) {
      const { repository, branch, headSha } = found;
      const data = { repository, branch, sha: headSha, pipeline: found.id };
      await wantOnce(tx, at, found.workspace, "branch", found.id, data);
    }
    return ended(`pull request #${event.pull} was ${how}`, stopped[0] ?? null);
  });
  wakeStopped(parts.wake, stopped);
}

/** Open again, the pull request revives its pipeline, unless its issue has another by now. */
async function pullReopened(parts: Parts, guid: string, event: PullEnded) {
  const found = await findByPull(parts.db.read, event.repository.id, event.pull);
  if (found?.state !== "closed") return;
  await inOneStep(parts, placeOf("pull", guid, event, event.pull), async (tx) => {
    const other = await findOpen(tx, found.repositoryId, found.issue);
    if (other)
      return ended(`#${event.pull} was reopened, and #${found.issue} has a new pipeline`, null);
    await record(tx, found.id, { state: "open", done: false, pullState: "open" });
    return ended(`pull request #${event.pull} was reopened: its pipeline goes on`, null);
  });
  parts.wake.emit("queue");
}

/** A pull request that changes trimo.yml gets a check that says whether it is right. */
async function checkPull(parts: Parts, event: PullChanged) {
  const { repository, workspace, pull, sha, base, branch, nodeId, draft } = event;
  await wantConfigCheck(parts, workspace, repository, sha, base);
  if (branch === null) return;
  // Somebody opened the pull request of a pipeline that had none.
  await parts.db.write(async (tx) => {
    const pipeline = await findByBranch(tx, repository.id, branch);
    if (pipeline?.pullNumber !== null) return;
    const pullState = draft ? ("draft" as const) : ("open" as const);
    await record(tx, pipeline.id, { pullNumber: pull, pullNodeId: nodeId, pullState });
    await want(tx, parts.clock.now(), workspace, "pull", pipeline.id, true);
  });
  parts.wake.emit("reports", workspace);
}

async function wantConfigCheck(
  parts: Parts,
  workspace: number,
  repository: Pushed["repository"],
  sha: string,
  base: string | null,
) {
  const data = { repository: repository.fullName, sha, base };
  const subject = `${repository.id}:${sha}`;
  await parts.db.write((tx) => wantOnce(tx, parts.clock.now(), workspace, "config", subject, data));
  parts.wake.emit("reports", workspace);
}

async function pushed(parts: Parts, guid: string, event: Pushed) {
  const { repository, workspace, branch, sha } = event;
  if (branch === repository.defaultBranch) {
    if (!event.touchesConfig || sha === null) return;
    await wantConfigCheck(parts, workspace, repository, sha, null);
    return await refreshSchedules(parts, workspace, repository);
  }
  const pipeline = await findByBranch(parts.db.read, repository.id, branch);
  if (!pipeline || pipeline.openingSha === null) return;
  if (sha === null) return await branchGone(parts, guid, event, pipeline);
  // Ours are told by the daemon, in order; a late delivery of one must not take the branch back.
  if (event.sender.login === (await parts.github.author()).name) return;
  await parts.db.write(async (tx) => {
    const live = (await openRuns(tx, pipeline.id)).some((run) => run.state !== "queued");
    if (!live) await record(tx, pipeline.id, { headSha: sha });
  });
}

/** A pull request goes with its branch, and says so itself; without one the pipeline ends here. */
async function branchGone(parts: Parts, guid: string, event: Pushed, pipeline: Pipeline) {
  if (pipeline.pullNumber !== null) return;
  let stopped: Run[] = [];
  await inOneStep(parts, placeOf("repository", guid, event, pipeline.issue), async (tx, at) => {
    stopped = await endPipeline(tx, at, pipeline, `${event.sender.login}, with the branch deleted`);
    return ended(`the branch ${pipeline.branch} was deleted`, stopped[0] ?? null);
  });
  wakeStopped(parts.wake, stopped);
}

async function issueGone(parts: Parts, guid: string, event: IssueGone) {
  const pipeline = await findOpen(parts.db.read, event.repository.id, event.issue.number);
  if (!pipeline || pipeline.issue !== event.issue.number) return;
  let stopped: Run[] = [];
  await inOneStep(parts, placeOf("repository", guid, event, pipeline.issue), async (tx, at) => {
    stopped = await endPipeline(tx, at, pipeline, `Trimo: ${event.why}`);
    return ended(event.why, stopped[0] ?? null);
  });
  wakeStopped(parts.wake, stopped);
}

async function repositoryChanged(parts: Parts, guid: string, event: RepositoryChanged) {
  const { repository, workspace, change } = event;
  let stopped: Run[] = [];
  await inOneStep(parts, placeOf("repository", guid, event, 0), async (tx, at) => {
    const open = await openPipelines(tx, { repositoryId: repository.id });
    if (change === "renamed" || change === "transferred") {
      await renameRepository(tx, repository.id, repository.fullName, workspace);
      for (const pipeline of open)
        await renameRuns(tx, pipeline.id, repository.fullName, workspace);
      return ended(`the repository is ${repository.fullName} now`, null);
    }
    stopped = await endAll(tx, at, open, `Trimo: the repository was ${change}`);
    return ended(`the repository was ${change}`, stopped[0] ?? null);
  });
  if (change === "renamed" || change === "transferred")
    await refreshSchedules(parts, workspace, repository);
  else await forgetSchedules(parts, [repository.id]);
  wakeStopped(parts.wake, stopped);
}

async function workspaceChanged(parts: Parts, event: WorkspaceChanged) {
  const { db, clock, wake } = parts;
  const { workspace: id, account, state } = event;
  const stopped = await db.write(async (tx) => {
    const at = clock.now();
    await recordWorkspace(tx, { id, account, state });
    await wantPlaces(tx, at, id);
    if (state !== "gone") return [];
    const open = await openPipelines(tx, { workspace: id });
    const ended = await endAll(tx, at, open, `Trimo: the App was uninstalled from ${account}`);
    await forgetWorkspace(tx, id);
    // There is nobody left to tell.
    await giveUpAll(tx, id, "the App was uninstalled");
    return ended;
  });
  wakeStopped(wake, stopped);
  wake.emit("reports", id);
  wake.emit("queue");
}

async function repositoriesRemoved(parts: Parts, event: RepositoriesRemoved) {
  const { db, clock, wake } = parts;
  const stopped = await db.write(async (tx) => {
    const all: Run[] = [];
    for (const repositoryId of event.ids) {
      // A repository that moved to another installation has gone on there.
      const here = await openPipelines(tx, { repositoryId });
      const open = here.filter((pipeline) => pipeline.workspace === event.workspace);
      all.push(
        ...(await endAll(tx, clock.now(), open, "Trimo: the App was taken off the repository")),
      );
    }
    return all;
  });
  await forgetSchedules(parts, event.ids);
  wakeStopped(wake, stopped);
}

async function endAll(tx: Tx, at: number, pipelines: Pipeline[], by: string): Promise<Run[]> {
  const stopped: Run[] = [];
  for (const pipeline of pipelines) stopped.push(...(await endPipeline(tx, at, pipeline, by)));
  return stopped;
}
