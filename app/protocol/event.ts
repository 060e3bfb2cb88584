import { z } from "zod";
import { AgentName, ImageName, Sha } from "./names.ts";
import { messageMax } from "./renew.ts";

// Limits of one event; text is in characters.

/** The most events in one request. */
export const eventsPerPostMax = 500;
/** The most characters of an agent's words in one event. */
export const sayMax = 2_000;
const commandMax = 1_000;
const tailMax = 8_000;
const conflictsMax = 50;
const pathMax = 500;
/** The most characters of a comment an agent asks for. */
export const commentMax = 8_000;

const planMax = 50;
/** The most tokens, or millionths of a dollar, in one event: sums of them stay exact everywhere. */
export const countMax = 1e12;
const planTextMax = 300;
const nameMax = 80;
/** The most characters of what a tool was used on. */
export const targetMax = 200;

/** The steps of a run, in order. */
export const stages = [
  "preparing",
  "cloning",
  "preboot",
  "agent",
  "committing",
  "verifying",
  "pushing",
  "cleaning",
] as const;
export const Stage = z.enum(stages);
export type Stage = z.infer<typeof Stage>;

const numbered = { seq: z.number().int().positive(), at: z.number().int().positive() };
/** One numbered fact about a run: metadata only. `at` is in milliseconds since 1970. */
export const Event = z.discriminatedUnion("type", [
  z.strictObject({
    ...numbered,
    type: z.literal("started"),
    agent: AgentName,
    image: ImageName,
    cpus: z.number(),
    memoryBytes: z.number().int(),
    minutes: z.number(),
    /** Whether it takes messages while it works. */
    acceptsMessages: z.boolean(),
  }),
  z.strictObject({ ...numbered, type: z.literal("stage"), stage: Stage }),
  z.strictObject({ ...numbered, type: z.literal("say"), text: z.string().max(sayMax) }),
  z.strictObject({ ...numbered, type: z.literal("notice"), text: z.string().max(sayMax) }),
  z.strictObject({
    ...numbered,
    type: z.literal("commit"),
    sha: Sha,
    subject: z.string().max(200),
  }),
  z.strictObject({ ...numbered, type: z.literal("pushed"), sha: Sha }),
  z.strictObject({
    ...numbered,
    type: z.literal("receipt"),
    index: z.number().int().nonnegative(),
    command: z.string().max(commandMax),
    exitCode: z.number().int(),
    durationMs: z.number().int().nonnegative(),
    /** The end of the output, redacted; empty when the command passed. */
    tail: z.string().max(tailMax),
  }),
  z.strictObject({
    ...numbered,
    type: z.literal("egress"),
    host: z.string().max(300),
    allowed: z.boolean(),
    reason: z.string().max(200),
  }),
  z.strictObject({
    ...numbered,
    type: z.literal("base"),
    /** Commits that the base has and the branch has not. */
    behind: z.number().int().nonnegative(),
    /** Paths that merging the base would leave in conflict; null where git could not tell. */
    conflicts: z.array(z.string().max(pathMax)).max(conflictsMax).nullable(),
  }),
  z.strictObject({
    ...numbered,
    type: z.literal("usage"),
    /** Of the run so far; what was read from the service's cache counts apart. Cost in millionths of a US dollar. */
    inputTokens: z.number().int().nonnegative().max(countMax),
    cachedTokens: z.number().int().nonnegative().max(countMax),
    outputTokens: z.number().int().nonnegative().max(countMax),
    costMicroUsd: z.number().int().nonnegative().max(countMax),
  }),
  z.strictObject({ ...numbered, type: z.literal("ask"), text: z.string().min(1).max(sayMax) }),
  z.strictObject({
    ...numbered,
    type: z.literal("service"),
    name: z.string().min(1).max(100),
    /** `ready` as preboot left it, `died` since, `running` when something else failed. */
    state: z.enum(["ready", "died", "running"]),
    /** From the start of preboot until it was ready. */
    durationMs: z.number().int().nonnegative(),
    /** The end of its log, redacted; empty when it became ready. */
    tail: z.string().max(tailMax),
  }),
  /** What the agent wants said under its pipeline's pull request, in Markdown. */
  z.strictObject({
    ...numbered,
    type: z.literal("comment"),
    text: z.string().min(1).max(commentMax),
  }),
  /** A tool the agent used: its name, and what on; a command by its head. Never what came of it. */
  z.strictObject({
    ...numbered,
    type: z.literal("tool"),
    name: z.string().min(1).max(nameMax),
    target: z.string().max(targetMax),
  }),
  /** A file it changed; lines where it tells them. */
  z.strictObject({
    ...numbered,
    type: z.literal("edit"),
    path: z.string().min(1).max(pathMax),
    added: z.number().int().nonnegative().nullable(),
    removed: z.number().int().nonnegative().nullable(),
  }),
  /** Its list of what is to be done, as it is now. */
  z.strictObject({
    ...numbered,
    type: z.literal("plan"),
    items: z
      .array(z.strictObject({ text: z.string().max(planTextMax), done: z.boolean() }))
      .max(planMax),
  }),
  /** A request to the model that ended: status 0 when no answer came. Times in milliseconds. */
  z.strictObject({
    ...numbered,
    type: z.literal("model"),
    status: z.number().int().min(0).max(999),
    firstByteMs: z.number().int().nonnegative().nullable(),
    durationMs: z.number().int().nonnegative(),
    /** It came right after one that had failed. */
    retry: z.boolean(),
    /** Why it does not count as answered; empty when it does. */
    problem: z.string().max(300),
  }),
  /** What the agent knows of the runs before: its own session, a written handoff, or nothing. */
  z.strictObject({
    ...numbered,
    type: z.literal("session"),
    from: z.enum(["session", "handoff", "nothing"]),
    /** Why it is not its session, as a piece of a sentence; empty when it is. */
    why: z.string().max(300),
  }),
  /** What of its work is nowhere but on the machine: commits that GitHub did not take, a volume not saved. */
  z.strictObject({
    ...numbered,
    type: z.literal("kept"),
    commits: z.boolean(),
    volume: z.boolean(),
  }),
  /** A message that reached the agent. */
  z.strictObject({
    ...numbered,
    type: z.literal("message"),
    id: z.number().int().positive(),
    by: z.string().max(100),
    text: z.string().max(messageMax),
  }),
  z.strictObject({
    ...numbered,
    type: z.literal("output"),
    bytes: z.number().int().nonnegative(),
    lines: z.number().int().nonnegative(),
  }),
]);
export type Event = z.infer<typeof Event>;
type WithoutNumber<T> = T extends unknown ? Omit<T, "seq" | "at"> : never;
/** An event before the outbox numbers it. */
export type Fact = WithoutNumber<Event>;

export const Events = z.strictObject({
  attempt: z.number().int().positive(),
  events: z.array(Event).min(1).max(eventsPerPostMax),
});
/** The highest event that is stored with all before it. */
export const EventsAnswer = z.strictObject({ acknowledged: z.number().int().nonnegative() });
