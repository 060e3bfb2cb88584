import { z } from "zod";
import { pausingCodes } from "../protocol/failure.ts";

const number = z.number();
const text = z.string();
const Slots = z.object({ name: text, busy: number, slots: number });

/** Where a queued run stands, what it waits for, and when it may start; all as of one moment. */
export const Position = z.object({
  /** 1: the next one for its daemons; null: it has no position while something holds it. */
  position: number.nullable(),
  waits: z.discriminatedUnion("for", [
    z.object({ for: z.literal("slot"), daemons: z.array(Slots) }),
    /** An earlier run of its pipeline; `run`: its number. */
    z.object({ for: z.literal("pipeline"), run: number }),
    /** A daemon that can run it; `away`: the names of those that could, were they here. */
    z.object({ for: z.literal("daemon"), away: z.array(text) }),
    /** `until`: milliseconds since 1970. */
    z.object({
      for: z.literal("quota"),
      agent: text,
      code: z.enum(pausingCodes),
      daemons: z.array(text),
      until: number,
    }),
    z.object({ for: z.literal("hold") }),
    z.object({ for: z.literal("suspended") }),
    z.object({ for: z.literal("branch") }),
    /** GitHub refuses what it takes to start it; `since`: milliseconds since 1970. */
    z.object({ for: z.literal("github"), why: text, since: number }),
  ]),
  /** Milliseconds until it may start, by the length of past runs; null: nothing to go by. */
  startsInMs: number.nullable(),
});
export type Position = z.infer<typeof Position>;
