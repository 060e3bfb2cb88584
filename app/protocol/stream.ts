import { z } from "zod";
import { RunId } from "./names.ts";

/** What the app sends over the stream; each only wakes, the truth is asked for by POST. */
export const StreamMessage = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("hello"), protocol: z.number().int() }),
  z.strictObject({ type: z.literal("wake") }),
  z.strictObject({ type: z.literal("cancel"), run: RunId, attempt: z.number().int().positive() }),
  /** Somebody has said something to a run: its renewal carries the words. */
  z.strictObject({ type: z.literal("message"), run: RunId, attempt: z.number().int().positive() }),
  z.strictObject({ type: z.literal("drain") }),
]);
export type StreamMessage = z.infer<typeof StreamMessage>;
