import { z } from "zod";
import { AgentName, BranchName, ImageName, RepositoryName, RunId, Sha } from "./names.ts";

/** Limits of one request. Text is in characters. */
export const promptMax = 100_000;

/** What a daemon is told to execute: ids, a prompt and names, never a command, mount or host. */
export const Job = z.strictObject({
  run: RunId,
  attempt: z.number().int().positive(),
  leaseMs: z.number().int().positive(),
  number: z.number().int().positive(),
  pipeline: RunId,
  repository: RepositoryName,
  issue: z.number().int().positive().nullable(),
  title: z.string().max(1_000),
  branch: BranchName,
  base: z.strictObject({ branch: BranchName, sha: Sha }),
  agent: AgentName.nullable(),
  image: ImageName.nullable(),
  prompt: z.string().max(promptMax),
  /** What an agent without its session is told besides: the runs before this one. */
  handoff: z.string().max(promptMax),
  /** Neither session nor handoff is wanted. */
  fresh: z.boolean(),
});
export type Job = z.infer<typeof Job>;
