import { asc, eq } from "drizzle-orm";
import { z } from "zod";
import { Cause } from "./cause.ts";
import type { Reads, Tx } from "./database.ts";
import { pipelineEvents } from "./schema.ts";

/** What happens to a pipeline, beside its runs. */
const PipelineFact = z.discriminatedUnion("type", [
  z.object({ type: z.literal("opened"), branch: z.string() }),
  /** A person's own pull request became a pipeline. */
  z.object({ type: z.literal("adopted"), pull: z.number() }),
  z.object({ type: z.literal("branch_made"), branch: z.string(), sha: z.string().nullable() }),
  /** No run changed anything: GitHub is being told. */
  z.object({ type: z.literal("closing") }),
  z.object({ type: z.literal("closed"), cause: Cause }),
  z.object({ type: z.literal("reopened"), by: z.enum(["pull", "push", "adoption"]) }),
]);
export type PipelineFact = z.infer<typeof PipelineFact>;

/** Appends a fact to a pipeline's log. */
export async function logPipeline(tx: Tx, pipelineId: string, fact: PipelineFact) {
  const { type, ...data } = fact;
  await tx.insert(pipelineEvents).values({ pipelineId, at: tx.now, type, data });
}

/** A pipeline's facts, oldest first; `at` in milliseconds since 1970. */
export async function pipelineFacts(
  db: Reads,
  pipelineId: string,
): Promise<{ at: number; fact: PipelineFact }[]> {
  const rows = await db
    .select()
    .from(pipelineEvents)
    .where(eq(pipelineEvents.pipelineId, pipelineId))
    .orderBy(asc(pipelineEvents.id));
  return rows.flatMap(({ at, type, data }) => {
    const { data: fact } = PipelineFact.safeParse({ ...data, type });
    return fact ? [{ at, fact }] : [];
  });
}
