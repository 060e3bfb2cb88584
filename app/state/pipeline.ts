import { and, desc, eq, like, ne, or } from "drizzle-orm";
import type { TrimoYml } from "../protocol/trimo-yml.ts";
import type { Tx } from "./database.ts";
import { want } from "./report.ts";
import { pipelines } from "./schema.ts";

export type Pipeline = typeof pipelines.$inferSelect;

/** Characters of a title that go into a branch name. */
const slugMax = 40;

/** The open pipeline of an issue, or of the pull request with that number. */
export async function findOpen(
  tx: Pick<Tx, "select">,
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
  tx: Pick<Tx, "select">,
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

export async function findPipeline(tx: Pick<Tx, "select">, id: string): Promise<Pipeline | null> {
  const [row] = await tx.select().from(pipelines).where(eq(pipelines.id, id));
  return row ?? null;
}

/** Opens a pipeline; its branch, opening commit and pull request follow from the wanted report. */
export async function open(
  tx: Tx,
  at: number,
  pipeline: Pick<
    Pipeline,
    "id" | "workspace" | "repository" | "repositoryId" | "issue" | "title" | "baseBranch"
  > &
    Partial<Pick<Pipeline, "held" | "priority">>,
  config: TrimoYml,
): Promise<Pipeline> {
  const template = config.branch ?? "trimo/{number}-{slug}";
  const wanted = branchName(template, pipeline.issue, pipeline.title);
  const taken = await tx
    .select({ branch: pipelines.branch })
    .from(pipelines)
    .where(
      and(eq(pipelines.repositoryId, pipeline.repositoryId), like(pipelines.branch, `${wanted}%`)),
    );
  const names = new Set(taken.map((row) => row.branch));
  let branch = wanted;
  for (let n = 2; names.has(branch); n++) branch = `${wanted}-${n}`;
  const [row] = await tx
    .insert(pipelines)
    .values({
      ...pipeline,
      branch,
      pullRequest: config.pull_request ?? "draft",
      deleteBranch: config.delete_branch ?? false,
      state: "open",
      createdAt: at,
    })
    .returning();
  if (!row) throw new Error(`pipeline ${pipeline.id} was not stored`);
  await want(tx, at, row.workspace, "pipeline", row.id, true);
  return row;
}

/** Takes a person's own pull request as a pipeline: the runs work on its branch, and it stays theirs. */
export async function adopt(
  tx: Tx,
  at: number,
  pipeline: Pick<
    Pipeline,
    | "id"
    | "workspace"
    | "repository"
    | "repositoryId"
    | "issue"
    | "title"
    | "baseBranch"
    | "branch"
    | "baseSha"
    | "headSha"
    | "pullNodeId"
    | "pullState"
    | "held"
    | "priority"
  >,
): Promise<Pipeline> {
  const row = {
    ...pipeline,
    adopted: true,
    pullNumber: pipeline.issue,
    pullRequest: "manual" as const,
    // Its branch is there already.
    openingSha: "",
    state: "open" as const,
    createdAt: at,
  };
  // One that ended with its pull request closed is taken up again when that is reopened.
  const before = await findByName(tx, pipeline.repositoryId, pipeline.branch);
  // The branch has a pipeline at work: this is a pull request of that one.
  if (before && before.state !== "closed") {
    if (before.pullNumber !== null) return before;
    const { pullNumber, pullNodeId, pullState } = row;
    await record(tx, before.id, { pullNumber, pullNodeId, pullState });
    return { ...before, pullNumber, pullNodeId, pullState };
  }
  if (before) {
    const { id: _, createdAt: __, ...changes } = row;
    await record(tx, before.id, changes);
    return { ...before, ...changes };
  }
  const [stored] = await tx.insert(pipelines).values(row).returning();
  if (!stored) throw new Error(`pipeline ${pipeline.id} was not stored`);
  return stored;
}

/** The newest pipeline of a pull request, whatever its state. */
export async function findByPull(
  tx: Pick<Tx, "select">,
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

/** The pipeline that has a branch's name, whatever its state. */
export async function findByName(
  tx: Pick<Tx, "select">,
  repositoryId: number,
  branch: string,
): Promise<Pipeline | null> {
  const [row] = await tx
    .select()
    .from(pipelines)
    .where(and(eq(pipelines.repositoryId, repositoryId), eq(pipelines.branch, branch)));
  return row ?? null;
}

/** The open pipeline that works on a branch. */
export async function findByBranch(
  tx: Pick<Tx, "select">,
  repositoryId: number,
  branch: string,
): Promise<Pipeline | null> {
  const row = await findByName(tx, repositoryId, branch);
  return row?.state === "open" ? row : null;
}

/** Every pipeline that is not over, of one repository or of a whole workspace. */
export async function openPipelines(
  tx: Pick<Tx, "select">,
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

/** A repository has another name or owner; it is known by its number. */
export async function renameRepository(
  tx: Tx,
  repositoryId: number,
  repository: string,
  workspace: number,
) {
  await tx
    .update(pipelines)
    .set({ repository, workspace })
    .where(eq(pipelines.repositoryId, repositoryId));
}

/** Records what is known of GitHub's side. */
export async function record(tx: Tx, id: string, changes: Partial<typeof pipelines.$inferInsert>) {
  await tx.update(pipelines).set(changes).where(eq(pipelines.id, id));
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
