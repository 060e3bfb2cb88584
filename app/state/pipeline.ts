import { and, desc, eq, isNotNull, like, ne, or, sql } from "drizzle-orm";
import type { TrimoYml } from "../protocol/trimo-yml.ts";
import type { Cause } from "./cause.ts";
import type { Reads, Tx } from "./database.ts";
import type { FailedCi } from "./failed-ci.ts";
import { logPipeline, type PipelineFact } from "./pipeline-event.ts";
import { request } from "./report.ts";
import { pipelines } from "./schema.ts";

/** One line of work on one branch. */
export type Pipeline = typeof pipelines.$inferSelect;
type PipelineState = Pipeline["state"];
type Changes = Partial<typeof pipelines.$inferInsert>;

//   open ──beginClosing──▶ closing ──close──▶ closed
//     ▲ ▲──────reopen─────────┘                  │
//     │ └───────────── close ────────────────────┤
//     └──────────────── reopen ──────────────────┘
const moves = {
  open: ["closing", "closed"],
  closing: ["open", "closed"],
  closed: ["open"],
} satisfies Record<PipelineState, PipelineState[]>;

/** The branch of a pipeline where trimo.yml says nothing. */
const defaultBranchTemplate = "trimo/{number}-{slug}";
/** The most characters of a title that go into a branch name. */
const slugMax = 40;

/**
 * Moves a pipeline, with its event. `pipeline` is what the caller believes: when the row says otherwise
 * nothing changes and the answer is null.
 *
 * @throws when the table of moves does not allow it: a fault of the caller's.
 */
async function move(
  tx: Tx,
  pipeline: Pick<Pipeline, "id" | "state">,
  to: PipelineState,
  changes: Changes,
  fact: PipelineFact,
): Promise<Pipeline | null> {
  const allowed: PipelineState[] = moves[pipeline.state];
  if (!allowed.includes(to))
    throw new Error(`a pipeline that is ${pipeline.state} cannot be ${to}`);
  const [row] = await tx
    .update(pipelines)
    .set({ ...changes, state: to })
    .where(and(eq(pipelines.id, pipeline.id), eq(pipelines.state, pipeline.state)))
    .returning();
  if (row) await logPipeline(tx, row.id, fact);
  return row ?? null;
}

/** What a new pipeline is opened with. */
export type NewPipeline = Pick<
  Pipeline,
  "workspace" | "repository" | "repositoryId" | "issue" | "title" | "baseBranch"
> &
  Partial<Pick<Pipeline, "held" | "priority">>;

/**
 * Opens a pipeline. Its branch, opening commit and pull request follow from the report it asks for; the
 * branch is named by trimo.yml's template, with a number behind it where another pipeline has the name.
 */
export async function open(tx: Tx, pipeline: NewPipeline, config: TrimoYml): Promise<Pipeline> {
  const template = config.branch ?? defaultBranchTemplate;
  const wanted = branchName(template, pipeline.issue, pipeline.title);
  const [row] = await tx
    .insert(pipelines)
    .values({
      ...pipeline,
      id: tx.newId(),
      branch: await freeBranch(tx, pipeline.repositoryId, wanted),
      pullRequest: config.pull_request ?? "draft",
      deleteBranch: config.delete_branch ?? false,
      state: "open",
      createdAt: tx.now,
    })
    .returning();
  if (!row) throw new Error(`the pipeline of issue ${pipeline.issue} was not stored`);
  await logPipeline(tx, row.id, { type: "opened", branch: row.branch });
  const report = { workspace: row.workspace, subject: row.id };
  await request(tx, { ...report, wanted: { kind: "pipeline" } }, { urgent: true });
  return row;
}

async function freeBranch(tx: Tx, repositoryId: number, wanted: string): Promise<string> {
  const taken = await tx
    .select({ branch: pipelines.branch })
    .from(pipelines)
    .where(and(eq(pipelines.repositoryId, repositoryId), like(pipelines.branch, `${wanted}%`)));
  const names = new Set(taken.map((row) => row.branch));
  let branch = wanted;
  for (let n = 2; names.has(branch); n++) branch = `${wanted}-${n}`;
  return branch;
}

/** A person's own pull request, as GitHub says it is. */
type AdoptedPull = NewPipeline &
  Pick<Pipeline, "branch" | "baseSha" | "headSha" | "pullNodeId" | "pullState">;

/**
 * Takes a person's own pull request as a pipeline: the runs work on its branch, and it stays theirs. A
 * pipeline that has the branch already is that one: an open one gets the pull request, a closed one is
 * reopened with it.
 */
export async function adopt(tx: Tx, pull: AdoptedPull): Promise<Pipeline> {
  const row = {
    ...pull,
    adopted: true,
    pullNumber: pull.issue,
    pullRequest: "manual" as const,
    // Its branch is there already, without an opening commit.
    openingSha: null,
    branchReady: true,
  };
  const before = await findByName(tx, pull.repositoryId, pull.branch);
  if (before && before.state !== "closed") {
    if (before.pullNumber !== null) return before;
    const { pullNumber, pullNodeId, pullState } = row;
    await recordPull(tx, before.id, { pullNumber, pullNodeId, pullState });
    return { ...before, pullNumber, pullNodeId, pullState };
  }
  if (before) {
    const fact = { type: "reopened" as const, by: "adoption" as const };
    const reopened = await move(tx, before, "open", row, fact);
    if (!reopened) throw new Error(`pipeline ${before.id} changed while it was adopted`);
    return reopened;
  }
  const [stored] = await tx
    .insert(pipelines)
    .values({ ...row, id: tx.newId(), state: "open", createdAt: tx.now })
    .returning();
  if (!stored) throw new Error(`the pipeline of pull request ${pull.issue} was not stored`);
  await logPipeline(tx, stored.id, { type: "adopted", pull: stored.issue });
  return stored;
}

/** Its branch is made, or (`openingSha` null) will be by the first commit: its runs can be claimed. */
export async function recordBranch(
  tx: Tx,
  id: string,
  branch: Pick<Pipeline, "branch" | "openingSha" | "headSha">,
) {
  await tx
    .update(pipelines)
    .set({ ...branch, branchReady: true })
    .where(eq(pipelines.id, id));
  await logPipeline(tx, id, { type: "branch_made", branch: branch.branch, sha: branch.openingSha });
  tx.wake("queue");
}

/** From here on nobody finds the pipeline any more: no run changed anything. Null: it is closed already. */
export async function beginClosing(tx: Tx, pipeline: Pipeline): Promise<Pipeline | null> {
  return await move(tx, pipeline, "closing", {}, { type: "closing" });
}

/** Closes a pipeline; null: it is closed already. `changes`: what is known of its pull request then. */
export async function close(
  tx: Tx,
  pipeline: Pipeline,
  cause: Cause,
  changes: Partial<Pick<Pipeline, "pullState">> = {},
): Promise<Pipeline | null> {
  if (pipeline.state === "closed") return null;
  return await move(tx, pipeline, "closed", changes, { type: "closed", cause });
}

/** Opens a pipeline again; null: it has moved on meanwhile. `by`: what brought it back. */
export async function reopen(
  tx: Tx,
  pipeline: Pipeline,
  by: "pull" | "push",
): Promise<Pipeline | null> {
  const changes = by === "pull" ? { done: false, pullState: "open" as const } : {};
  const row = await move(tx, pipeline, "open", changes, { type: "reopened", by });
  tx.wake("queue");
  return row;
}

/** The label trimo:hold is on it, or no longer: none of its runs is claimed while it is. */
export async function hold(tx: Tx, id: string, held: boolean) {
  await tx.update(pipelines).set({ held }).where(eq(pipelines.id, id));
  tx.wake("queue");
}

/** How soon its runs are wanted; 0: in their turn. */
export async function prioritise(tx: Tx, id: string, priority: number) {
  await tx.update(pipelines).set({ priority }).where(eq(pipelines.id, id));
  tx.wake("queue");
}

/** Somebody said `/trimo done` (true), or asked for more since (false). */
export async function recordDone(tx: Tx, id: string, done: boolean) {
  await tx.update(pipelines).set({ done }).where(eq(pipelines.id, id));
}

/** The commit of the base that the pipeline stands on. */
export async function recordBase(tx: Tx, id: string, baseSha: string) {
  await tx.update(pipelines).set({ baseSha }).where(eq(pipelines.id, id));
}

/** The newest commit of its branch that is known on GitHub. */
export async function recordHead(tx: Tx, id: string, headSha: string) {
  await tx.update(pipelines).set({ headSha }).where(eq(pipelines.id, id));
}

/** CI failed on its head while a run was under way. */
export async function recordFailedCi(tx: Tx, id: string, failedCi: FailedCi) {
  await tx.update(pipelines).set({ failedCi }).where(eq(pipelines.id, id));
}

/** Failed CI is taken up, or nobody's any more; what failed since stays. */
export async function clearFailedCi(tx: Tx, id: string, failedCi: FailedCi) {
  await tx
    .update(pipelines)
    .set({ failedCi: null })
    .where(and(eq(pipelines.id, id), eq(pipelines.failedCi, failedCi)));
}

/** The open pipelines with CI to be taken up, on which no run is queued or under way. */
export async function idleWithFailedCi(db: Reads): Promise<Pipeline[]> {
  const open = sql`select 1 from runs where runs.pipeline_id = ${pipelines.id} and runs.state in ('queued', 'claimed', 'running')`;
  return await db
    .select()
    .from(pipelines)
    .where(
      and(isNotNull(pipelines.failedCi), eq(pipelines.state, "open"), sql`not exists (${open})`),
    );
}

/** What is known of its pull request on GitHub. */
export async function recordPull(
  tx: Tx,
  id: string,
  pull: Partial<Pick<Pipeline, "pullNumber" | "pullNodeId" | "pullState">>,
) {
  await tx.update(pipelines).set(pull).where(eq(pipelines.id, id));
}

/** A repository has another name or owner; it is known by its number. */
export async function renameRepository(
  tx: Tx,
  repositoryId: number,
  { repository, workspace }: Pick<Pipeline, "repository" | "workspace">,
) {
  await tx
    .update(pipelines)
    .set({ repository, workspace })
    .where(eq(pipelines.repositoryId, repositoryId));
}

/** The pipeline with this id; null: there is none. */
export async function findPipeline(tx: Reads, id: string): Promise<Pipeline | null> {
  const [row] = await tx.select().from(pipelines).where(eq(pipelines.id, id));
  return row ?? null;
}

/** The open pipeline of an issue, or of the pull request with that number; null: there is none. */
export async function findOpen(
  tx: Reads,
  repositoryId: number,
  number: number,
): Promise<Pipeline | null> {
  const [row] = await tx
    .select()
    .from(pipelines)
    .where(
      and(
        eq(pipelines.repositoryId, repositoryId),
        eq(pipelines.state, "open"),
        or(eq(pipelines.issue, number), eq(pipelines.pullNumber, number)),
      ),
    )
    .orderBy(desc(pipelines.createdAt))
    .limit(1);
  return row ?? null;
}

/** Whether an issue has ever had a pipeline. */
export async function hadPipeline(
  tx: Reads,
  repositoryId: number,
  issue: number,
): Promise<boolean> {
  const rows = await tx
    .select({ id: pipelines.id })
    .from(pipelines)
    .where(and(eq(pipelines.repositoryId, repositoryId), eq(pipelines.issue, issue)))
    .limit(1);
  return rows.length > 0;
}

/** The newest pipeline of a pull request, whatever its state; null: there is none. */
export async function findByPull(
  tx: Reads,
  repositoryId: number,
  pull: number,
): Promise<Pipeline | null> {
  const [row] = await tx
    .select()
    .from(pipelines)
    .where(and(eq(pipelines.repositoryId, repositoryId), eq(pipelines.pullNumber, pull)))
    .orderBy(desc(pipelines.createdAt))
    .limit(1);
  return row ?? null;
}

/** The pipeline that has a branch's name, whatever its state; null: none has. */
export async function findByName(
  tx: Reads,
  repositoryId: number,
  branch: string,
): Promise<Pipeline | null> {
  const [row] = await tx
    .select()
    .from(pipelines)
    .where(and(eq(pipelines.repositoryId, repositoryId), eq(pipelines.branch, branch)));
  return row ?? null;
}

/** The open pipeline that works on a branch; null: none does. */
export async function findByBranch(
  tx: Reads,
  repositoryId: number,
  branch: string,
): Promise<Pipeline | null> {
  const row = await findByName(tx, repositoryId, branch);
  return row?.state === "open" ? row : null;
}

/** Every pipeline that is not closed, of one repository or of a whole workspace. */
export async function openPipelines(
  tx: Reads,
  where: { repositoryId: number } | { workspace: number },
): Promise<Pipeline[]> {
  const mine =
    "workspace" in where
      ? eq(pipelines.workspace, where.workspace)
      : eq(pipelines.repositoryId, where.repositoryId);
  return await tx
    .select()
    .from(pipelines)
    .where(and(mine, ne(pipelines.state, "closed")));
}

/** `trimo/{number}-{slug}` → `trimo/12-leap-second`; an emoji title gives `trimo/12-work`. */
function branchName(template: string, number: number, title: string): string {
  return template.replaceAll("{number}", String(number)).replaceAll("{slug}", slug(title));
}

function slug(title: string): string {
  const plain = title
    .normalize("NFKD")
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+/, "")
    .slice(0, slugMax)
    .replace(/-+$/, "");
  return plain || "work";
}
