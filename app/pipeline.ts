import { and, desc, eq, like, or } from "drizzle-orm";
import { parseDocument } from "yaml";
import type { Tx } from "./database.ts";
import { want } from "./outbox.ts";
import { TrimoYml } from "./protocol/trimo-yml.ts";
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
  >,
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
      state: "open",
      createdAt: at,
    })
    .returning();
  if (!row) throw new Error(`pipeline ${pipeline.id} was not stored`);
  await want(tx, at, row.workspace, "pipeline", row.id, true);
  return row;
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

export type ParsedConfig = { config: TrimoYml; problems: string[] };

/** `.github/trimo.yml` as text → what it says, or every mistake with its line. */
export function parseTrimoYml(text: string | null): ParsedConfig {
  if (text === null || text.trim() === "") return { config: {}, problems: [] };
  const document = parseDocument(text, { prettyErrors: true });
  if (document.errors.length > 0)
    return { config: {}, problems: document.errors.map((e) => e.message.split("\n")[0] ?? "") };
  const parsed = TrimoYml.safeParse(document.toJS({ maxAliasCount: 20 }) ?? {});
  if (parsed.success) return { config: parsed.data, problems: [] };
  const problems = parsed.error.issues.map((issue) => {
    const node = document.getIn(issue.path as never, true) as { range?: number[] } | undefined;
    const line = node?.range ? text.slice(0, node.range[0]).split("\n").length : null;
    const where = issue.path.length > 0 ? `\`${issue.path.join(".")}\`: ` : "";
    return `${line ? `line ${line}: ` : ""}${where}${issue.message}`;
  });
  return { config: {}, problems };
}
