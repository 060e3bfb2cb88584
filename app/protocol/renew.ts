import { z } from "zod";

/** The most characters of one message to an agent at work. */
export const messageMax = 8_000;
/** The most messages one renewal carries. */
export const messagesPerRenewalMax = 20;

/** Extends an attempt's lease. */
export const Renew = z.strictObject({
  attempt: z.number().int().positive(),
  /** The number of the last message the daemon has; 0: none yet. */
  received: z.number().int().nonnegative(),
});

/** What somebody says to a run under way with `/trimo tell`, numbered from 1 for each run. */
const Message = z.strictObject({
  id: z.number().int().positive(),
  by: z.string().max(100),
  text: z.string().min(1).max(messageMax),
});
export type Message = z.infer<typeof Message>;

/** The lease in milliseconds from now, whether the run is to be stopped, and what is new for its agent. */
export const RenewAnswer = z.strictObject({
  leaseMs: z.number().int().positive(),
  cancel: z.boolean(),
  /** Those after `received`, in order. */
  messages: z.array(Message).max(messagesPerRenewalMax),
});
