import { z } from "zod";

/**
 * What stopped a run or closed a pipeline; `view/cause.ts` words it. Stored as JSON in `runs.cancelled_by`
 * and in the pipeline's events.
 */
export const Cause = z.discriminatedUnion("by", [
  /** Somebody wrote `/trimo cancel`. */
  z.object({ by: z.literal("person"), login: z.string() }),
  /** Its pull request was merged or closed. */
  z.object({ by: z.literal("pull"), login: z.string(), merged: z.boolean() }),
  /** Its branch was deleted. */
  z.object({ by: z.literal("branch"), login: z.string() }),
  /** Its issue is gone. */
  z.object({ by: z.literal("issue"), change: z.enum(["deleted", "transferred"]) }),
  /** Its repository is gone, or no longer the App's. */
  z.object({ by: z.literal("repository"), change: z.enum(["archived", "deleted", "removed"]) }),
  /** The App was uninstalled from the account. */
  z.object({ by: z.literal("uninstalled"), account: z.string() }),
  /** GitHub does not let Trimo make its branch. */
  z.object({ by: z.literal("refusal"), branch: z.string(), why: z.string() }),
  /** The repository has no commit to start from. */
  z.object({ by: z.literal("empty") }),
  /** No run of it changed anything. */
  z.object({ by: z.literal("unchanged") }),
  /** The daemon says that it was stopped, and the app knows of nobody who asked. */
  z.object({ by: z.literal("daemon"), name: z.string() }),
]);
export type Cause = z.infer<typeof Cause>;
