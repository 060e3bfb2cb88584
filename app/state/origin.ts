import { z } from "zod";
import { commandNames } from "../protocol/permission.ts";

/** What asked for a run, where it was not itself the continuation of another. */
const FirstOrigin = z.discriminatedUnion("by", [
  z.object({ by: z.literal("label"), label: z.string() }),
  z.object({ by: z.literal("comment"), command: z.enum(commandNames) }),
  z.object({ by: z.literal("button"), button: z.enum(["again", "fix", "continue"]) }),
  /** Checks of another app failed on the pipeline's branch. */
  z.object({ by: z.literal("ci"), app: z.string() }),
  /** A schedule of trimo.yml found the issue. */
  z.object({ by: z.literal("schedule") }),
  /** A message that the agent of the run before did not hear. */
  z.object({ by: z.literal("unheard") }),
]);

/** What asked for a run; `view/origin.ts` words it. */
export const Origin = z.union([
  FirstOrigin,
  /** The run before was ended by its model's quota; `first` is what asked for the first of them. */
  z.object({ by: z.literal("quota"), first: FirstOrigin }),
]);
export type Origin = z.infer<typeof Origin>;

/** What asked for the first of a row of runs that continue one another. */
export const firstOrigin = (origin: Origin): z.infer<typeof FirstOrigin> =>
  origin.by === "quota" ? origin.first : origin;

/** Whether a person asked for the run: only then does its requester's name belong to a person. */
export const isByPerson = (origin: Origin): boolean => {
  const { by } = firstOrigin(origin);
  return by !== "ci" && by !== "schedule";
};
