import type { Failure } from "../../app/protocol/failure.ts";
import type { StopReason } from "../../images/base/task.ts";
import type { Problem } from "../agents/adapter.ts";

/** What came of a container, put together from its journal, its output and its end. */
export type Outcome = {
  agent: {
    exit: number | null;
    signal: string | null;
    stopReason: StopReason | null;
  } | null;
  /** Why the agent's work does not count, by its own output and exit. */
  agentProblem: Problem | null;
  receipts: { command: string; exit: number }[];
  failed: Failure | null;
  outOfMemory: boolean;
  /** It ended before its work did, or with work that never came to the gate. */
  died: boolean;
  /** The agent was started: from then on there may be work on the volume. */
  agentBegan: boolean;
  /** By its own word everything is in the gate. */
  pushed: boolean;
  /** A rescue found no checkout on the volume: it was lost, or the agent never came to one. */
  nothing: boolean;
  /** It had its task and wrote something; else nothing of it has happened. */
  began: boolean;
  /** The end of the agent's output, clean. */
  tail: string;
};

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
    pushed: false,
    nothing: false,
    began: false,
    tail: "",
  };
}
