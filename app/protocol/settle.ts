import { z } from "zod";
import { Failure } from "./failure.ts";
import { AgentName, Sha } from "./names.ts";

/** How an attempt ended. */
export const Settle = z.strictObject({
  attempt: z.number().int().positive(),
  /** The last event's number; the app refuses to settle before it has them all. */
  lastSeq: z.number().int().nonnegative(),
  outcome: z.enum(["succeeded", "failed", "cancelled", "timed_out", "declined"]),
  failure: Failure.nullable(),
  /** The branch on GitHub when the run ended; null where it was never read. */
  head: Sha.nullable(),
  /** Whether the run added commits to its branch. */
  changed: z.boolean(),
  /** The service takes nothing more until then: these agents of this daemon wait with it. */
  quota: z
    .strictObject({
      /** Milliseconds since 1970; null: the service does not tell. */
      resetAt: z.number().int().positive().nullable(),
      agents: z.array(AgentName).min(1).max(100),
    })
    .nullable(),
});
export type Settle = z.infer<typeof Settle>;

/** The app has the end, now or from before. */
export const SettleAnswer = z.strictObject({ settled: z.literal(true) });
