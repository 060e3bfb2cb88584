import { z } from "zod";
import { Failure, FailureCode } from "../../app/protocol/failure.ts";

/** What came of a container, put together from its journal, its output and its end. */
export const Outcome = z.object({
  agent: z
    .object({
      exit: z.number().nullable(),
      signal: z.string().nullable(),
      stopReason: z.enum(["time", "output", "memory", "disk", "pids"]).nullable(),
    })
    .nullable(),
  /** Why the agent's work does not count, by its own output and exit. */
  agentProblem: z.object({ code: FailureCode, text: z.string() }).nullable(),
  receipts: z.array(z.object({ command: z.string(), exit: z.number() })),
  failed: Failure.nullable(),
  outOfMemory: z.boolean(),
  /** It ended before its work did, or with work that never came to the gate. */
  died: z.boolean(),
  /** The agent was started: from then on there may be work on the volume. */
  agentBegan: z.boolean(),
  /** It was asked to stop, by this daemon or by somebody else on its machine. */
  stopped: z.boolean().default(false),
  /** By its own word everything is in the gate. */
  pushed: z.boolean(),
  /** A rescue found no checkout on the volume: it was lost, or the agent never came to one. */
  nothing: z.boolean(),
  /** It had its task and wrote something; else nothing of it has happened. */
  began: z.boolean(),
  /** The end of the agent's output, clean. */
  tail: z.string(),
});
export type Outcome = z.infer<typeof Outcome>;

/** The outcome of a container that an earlier daemon saw die. */
export function died(known: { outOfMemory: boolean; tail: string }): Outcome {
  const { outOfMemory, tail } = known;
  return { ...blank(), died: true, began: true, outOfMemory, tail };
}

/** The outcome of a container before anything is known of it. */
export function blank(): Outcome {
  return {
    agent: null,
    agentProblem: null,
    receipts: [],
    failed: null,
    outOfMemory: false,
    died: false,
    agentBegan: false,
    stopped: false,
    pushed: false,
    nothing: false,
    began: false,
    tail: "",
  };
}
