import { agentsFor } from "../dispatch/match.ts";
import type { Issue } from "../github/objects.ts";
import { continueRequest, fixRequest } from "../prompt/compose.ts";
import { BranchName } from "../protocol/names.ts";
import { agentsOf, holdLabel, nowLabel, type TrimoYml } from "../protocol/trimo-yml.ts";
import type { Reads, Tx } from "../state/database.ts";
import { hashOf } from "../state/identity.ts";
import { cancelsSince, isSaidAfter } from "../state/intent.ts";
import type { Origin } from "../state/origin.ts";
import {
  adopt,
  findOpen,
  findPipeline,
  type NewPipeline,
  open,
  type Pipeline,
  recordDone,
} from "../state/pipeline.ts";
import type { Reply } from "../state/reply.ts";
import { enqueue, lastRun, openRuns, type Run } from "../state/run.ts";
import {
  acknowledge,
  answer,
  answered,
  type Effect,
  type Heard,
  type Parts,
  recordIntent,
  type Source,
} from "./intent.ts";

/** The same request this soon again, while its run has not ended, is the same run; in milliseconds. */
const duplicateMs = 60_000;
/** What the label trimo:now adds to a priority; age decides among equals. */
const expedited = 10;

/** What somebody wants a run to be. */
export type RunRequest = {
  kind: Run["kind"];
  origin: Origin;
  /** Empty: what its kind says. */
  prompt: string;
  agent: string | null;
  image: string | null;
  fresh: boolean;
  /** When it was asked for, as GitHub says it, in milliseconds since 1970; null: it does not say. */
  askedAt: number | null;
  /** The request itself is one of the issue's comments. */
  isComment: boolean;
  /** The comment to be acknowledged; null: none. */
  heard: Heard | null;
  /** What is answered beside the run's own comment. */
  reply?: (run: Run) => Reply;
};

/** A request with nothing beyond its kind and origin. */
export const bareRequest = (kind: Run["kind"], origin: Origin): RunRequest => ({
  kind,
  origin,
  prompt: "",
  agent: null,
  image: null,
  fresh: false,
  askedAt: null,
  isComment: false,
  heard: null,
});

/** The pipeline a run is to be on. */
type Target =
  /** That of an issue or pull request, which is opened when there is none. */
  | { issue: Issue }
  /** This one. `unless`: what is done in place of a run, as things stand in the transaction. */
  | {
      pipelineId: string;
      unless?: (tx: Tx, pipeline: Pipeline) => Promise<Effect | null>;
    };

/** Where every way in ends: adds a run to a pipeline, or says why there is none. */
export async function requestRun(
  parts: Parts,
  source: Source,
  { request, target, config }: { request: RunRequest; target: Target; config: TrimoYml },
) {
  const { db } = parts;
  const unknown = await unknownAgent(db.read, source, request.agent);
  if (unknown) return await answer(parts, source, unknown);
  const agents = await agentsHere(db.read, source, config);
  const opener =
    "issue" in target
      ? await prepareOpening(parts, source, target.issue, request.kind, config)
      : null;
  if (opener && typeof opener !== "function") return await answer(parts, source, opener);
  await recordIntent(parts, source, async (tx) => {
    if (request.heard) await acknowledge(tx, source, request.heard);
    const label = request.origin.by === "label" ? request.origin.label : null;
    const found = await pipelineOf(tx, source, target);
    if (await isCancelledSince(tx, source, found))
      return answered({ kind: "cancelled_since", label });
    const pipeline = found ?? (await opener?.(tx)) ?? null;
    if (pipeline?.state !== "open") return answered({ kind: "pipeline_ended", now: true });
    const instead = "unless" in target ? await target.unless?.(tx, pipeline) : null;
    return instead ?? (await addRun(tx, source, { request, target, pipeline, agents }));
  });
}

/** Whether a cancel was said after this and read before it: it counts for every wish said before it. */
async function isCancelledSince(
  tx: Tx,
  { repository, thread, said }: Source,
  pipeline: Pipeline | null,
): Promise<boolean> {
  if (!said || thread === null) return false;
  const threads = [thread, ...(pipeline ? [pipeline.issue, pipeline.pullNumber ?? thread] : [])];
  const cancels = await cancelsSince(tx, { repository: repository.fullName, threads }, said.at);
  return cancels.some((cancel) => isSaidAfter(cancel, said));
}

/** The pipeline that is there already; null: none is. */
async function pipelineOf(
  tx: Tx,
  { repository }: Source,
  target: Target,
): Promise<Pipeline | null> {
  if ("pipelineId" in target) return await findPipeline(tx, target.pipelineId);
  return await findOpen(tx, repository.id, target.issue.number);
}

/** The repository's own agents that some daemon has; all of them where none has one. */
async function agentsHere(db: Reads, { repository }: Source, config: TrimoYml): Promise<string[]> {
  const wanted = agentsOf(config);
  const known = await agentsFor(db, repository.fullName);
  const here = wanted.filter((agent) => known.includes(agent));
  return here.length > 0 ? here : wanted;
}

/** That no daemon here has this agent; null: one has, or none is named, or no daemon is known. */
export async function unknownAgent(
  db: Reads,
  { repository }: Source,
  agent: string | null,
): Promise<Reply | null> {
  if (agent === null) return null;
  const known = await agentsFor(db, repository.fullName);
  if (known.length === 0 || known.includes(agent)) return null;
  return { kind: "unknown_agent", agent, known };
}

type Opener = (tx: Tx) => Promise<Pipeline>;

/** What opens the pipeline that is missing, or why it cannot be opened; null: there is one. */
async function prepareOpening(
  parts: Parts,
  { workspace, repository }: Source,
  issue: Issue,
  kind: Run["kind"],
  config: TrimoYml,
): Promise<Opener | Reply | null> {
  if (await findOpen(parts.db.read, repository.id, issue.number)) return null;
  if (!issue.isPull && !issue.open) return { kind: "closed", what: "issue", label: false };
  if (!issue.isPull && kind !== "run") return { kind: "no_run_yet", command: kind };
  const pipeline: NewPipeline = {
    workspace,
    repository: repository.fullName,
    repositoryId: repository.id,
    issue: issue.number,
    title: issue.title,
    baseBranch: repository.defaultBranch,
    // Not the event's: it may be older than what was put on since.
    ...steeredBy(
      await parts.github.installation(workspace).labels(repository.fullName, issue.number),
    ),
  };
  if (issue.isPull) return await prepareAdoption(parts, pipeline, repository.defaultBranch, kind);
  if (!BranchName.safeParse(repository.defaultBranch).success)
    return { kind: "odd_branch", branch: repository.defaultBranch, isDefault: true };
  return (tx) => open(tx, pipeline, config);
}

/** What takes a person's own pull request as a pipeline, or why it cannot be taken. */
async function prepareAdoption(
  { github }: Parts,
  pipeline: NewPipeline,
  defaultBranch: string,
  kind: Run["kind"],
): Promise<Opener | Reply> {
  if (kind === "retry") return { kind: "no_run_yet", command: "retry" };
  const { workspace, repository, issue } = pipeline;
  const pull = await github.installation(workspace).pullDetails(repository, issue);
  if (pull.state === "closed") return { kind: "closed", what: "pull", label: false };
  if (pull.head.repository?.toLowerCase() !== repository.toLowerCase()) return { kind: "fork" };
  if (pull.head.branch === defaultBranch) return { kind: "from_default_branch" };
  const names = [pull.head.branch, pull.base.branch];
  const odd = names.find((name) => !BranchName.safeParse(name).success);
  if (odd !== undefined) return { kind: "odd_branch", branch: odd, isDefault: false };
  return (tx) =>
    adopt(tx, {
      ...pipeline,
      branch: pull.head.branch,
      baseBranch: pull.base.branch,
      baseSha: pull.base.sha,
      headSha: pull.head.sha,
      pullNodeId: pull.nodeId,
      pullState: pull.state,
    });
}

/** What the labels of an issue say of its pipeline's place in the queue. */
export function steeredBy(labels: string[]): Pick<Pipeline, "held" | "priority"> {
  const names = labels.map((label) => label.toLowerCase());
  return { held: names.includes(holdLabel), priority: names.includes(nowLabel) ? expedited : 0 };
}

type Addition = {
  request: RunRequest;
  target: Target;
  pipeline: Pipeline;
  /** The repository's agents, in the order they take over. */
  agents: string[];
};

/** The run, or that it is there already. */
async function addRun(tx: Tx, source: Source, addition: Addition): Promise<Effect> {
  const { request, pipeline, agents } = addition;
  const last = await lastRun(tx, pipeline.id);
  const again = request.kind === "retry" ? last : null;
  const { kind, prompt } = whatIsAsked(request, pipeline, again);
  const requestHash = hashOf(
    JSON.stringify([request.kind, prompt, request.agent, request.image, request.fresh]),
  );
  const duplicate = (await openRuns(tx, pipeline.id)).find(
    (run) =>
      tx.now - run.createdAt < duplicateMs &&
      run.requestHash === requestHash &&
      run.cancelledBy === null,
  );
  if (duplicate) return answered({ kind: "duplicate", run: duplicate.number }, duplicate);
  const usual = request.kind === "run" ? null : (last?.agent ?? null);
  const run = await enqueue(tx, {
    kind,
    prompt,
    requestHash,
    agent: request.agent ?? usual ?? agents[0] ?? null,
    askedImage: request.image ?? again?.askedImage ?? null,
    pipelineId: pipeline.id,
    workspace: pipeline.workspace,
    repository: pipeline.repository,
    // What the last run was told is found again when its turn comes, with that run in the handoff.
    composed: last === null && isAlone(addition) ? prompt : null,
    fresh: request.fresh || (again?.fresh ?? false),
    // Whoever asked for one agent by name wants that one.
    fallback: request.agent === null ? agents : [],
    thread: source.thread ?? pipeline.issue,
    label: request.origin.by === "label" ? request.origin.label : null,
    priority: pipeline.priority,
    requestedBy: source.sender,
    origin: request.origin,
    // What was said since is for the run after it, when this is told what the last was told.
    askedAt: again?.composed ? again.askedAt : (request.askedAt ?? tx.now),
  });
  await recordDone(tx, pipeline.id, false);
  return { outcome: "run", run, reply: request.reply?.(run) ?? null };
}

/** The kind and prompt of a run; `again`: the run that is to be repeated. */
function whatIsAsked(request: RunRequest, pipeline: Pipeline, again: Run | null) {
  const kind = again && again.composed === null ? again.kind : request.kind;
  const usual = kind === "fix" ? fixRequest : kind === "continue" ? continueRequest : "";
  return { kind, prompt: again?.prompt ?? (request.prompt || usual || pipeline.title) };
}

/** Nothing can have been said yet: there is no comment but the request itself. */
function isAlone({ target, request }: Addition): boolean {
  const issue = "issue" in target ? target.issue : null;
  return !issue?.isPull && (issue?.comments ?? 0) <= (request.isComment ? 1 : 0);
}
