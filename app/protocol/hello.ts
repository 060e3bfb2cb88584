import { z } from "zod";
import { AgentName, RunId } from "./names.ts";

/** A run a daemon has in hand. */
const Held = z.strictObject({ run: RunId, attempt: z.number().int().positive() });

/** Sent at each (re)connection: who I am, what I can do, what I still run. */
export const Hello = z.strictObject({
  protocol: z.number().int(),
  version: z.string().max(40),
  slots: z.number().int().min(0).max(1_000),
  repositories: z.array(z.string().max(200)).max(1_000),
  agents: z.array(AgentName).max(100),
  /** Another one after each start of the daemon: then its pauses are over. */
  start: z.string().max(40).default(""),
  held: z.array(Held).max(1_000),
});
export type Hello = z.infer<typeof Hello>;

/**
 * `continue` these; `cancel` these, keeping their work; `rescue` these: the lease is gone and nobody
 * else took over, so push what there is and settle; `kill` these: another attempt owns the run.
 */
export const HelloAnswer = z.strictObject({
  name: z.string(),
  verdicts: z.array(Held.extend({ verdict: z.enum(["continue", "cancel", "rescue", "kill"]) })),
});
export type HelloAnswer = z.infer<typeof HelloAnswer>;
