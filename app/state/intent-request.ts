import { z } from "zod";
import { commandNames } from "../protocol/permission.ts";

/**
 * What an intent asked for, or what happened on GitHub that it stands for; `view/intent.ts` words it.
 * Stored as JSON in `intents.request`.
 */
export const IntentRequest = z.discriminatedUnion("type", [
  z.object({ type: z.literal("label"), label: z.string() }),
  z.object({ type: z.literal("command"), command: z.enum(commandNames) }),
  z.object({ type: z.literal("button"), button: z.enum(["again", "fix", "continue"]) }),
  /** A review that asks for changes. */
  z.object({ type: z.literal("review") }),
  z.object({ type: z.literal("ci"), app: z.string(), sha: z.string() }),
  z.object({ type: z.literal("schedule") }),
  z.object({
    type: z.literal("pull"),
    pull: z.number(),
    change: z.enum(["merged", "closed", "reopened"]),
  }),
  z.object({ type: z.literal("branch_deleted"), branch: z.string() }),
  z.object({ type: z.literal("issue"), change: z.enum(["deleted", "transferred"]) }),
  z.object({
    type: z.literal("repository"),
    change: z.enum(["renamed", "transferred", "archived", "deleted"]),
    name: z.string(),
  }),
]);
export type IntentRequest = z.infer<typeof IntentRequest>;
