import { z } from "zod";
import { Failure } from "./failure.ts";
import { AgentName, BranchName, ImageName, RepositoryName, RunId, Sha } from "./names.ts";

/** Limits of one request. Text is in characters. */
export const promptMax = 100_000;
export const eventsPerPostMax = 500;
export const sayMax = 2_000;
const commandMax = 1_000;
const tailMax = 8_000;
const conflictsMax = 50;
const pathMax = 500;
export const commentMax = 8_000;
/** What people tell a run while it works: each text, and how many wait to be handed over. */
export const tellMax = 8_000;
const tellsMax = 20;
const planMax = 50;
const planTextMax = 300;
const nameMax = 80;
export const targetMax = 200;

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

/** What a daemon is told to execute: ids, a prompt and names, never a command, mount or host. */
export const Job = z.strictObject({
  run: RunId,
  attempt: z.number().int().positive(),
  leaseMs: z.number().int().positive(),
  number: z.number().int().positive(),
  pipeline: RunId,
  repository: RepositoryName,
  issue: z.number().int().positive().nullable(),
  title: z.string().max(1_000),
  branch: BranchName,
  base: z.strictObject({ branch: BranchName, sha: Sha }),
  agent: AgentName.nullable(),
  image: ImageName.nullable(),
  prompt: z.string().max(promptMax),
  /** What an agent without its session is told besides: the runs before this one. */
  handover: z.string().max(promptMax),
  /** Neither session nor hand-over is wanted. */
  fresh: z.boolean(),
});
export type Job = z.infer<typeof Job>;

/** A run a daemon has in hand. */
const Held = z.strictObject({ run: RunId, attempt: z.number().int().positive() });

/** Sent at each (re)connection: who I am, what I can do, what I still run. */
export const Hello = z.strictObject({
  protocol: z.number().int(),
  version: z.string().max(40),
  slots: z.number().int().min(0).max(1_000),
  repositories: z.array(z.string().max(200)).max(1_000),
  agents: z.array(AgentName).max(100),
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

export const Claim = z.strictObject({
  /** Names this request: asked again with the same key, the same job is the answer. */
  key: z.string().min(8).max(64),
});
export const ClaimAnswer = z.strictObject({ job: Job.nullable() });

export const Renew = z.strictObject({
  attempt: z.number().int().positive(),
  /** The last tell that the daemon has taken over; 0: none yet. */
  told: z.number().int().nonnegative(),
});
/** Somebody's words to a run that is under way, numbered from 1 for each attempt's run. */
const Tell = z.strictObject({
  id: z.number().int().positive(),
  by: z.string().max(100),
  text: z.string().min(1).max(tellMax),
});
export type Tell = z.infer<typeof Tell>;
export const RenewAnswer = z.strictObject({
  leaseMs: z.number().int().positive(),
  cancel: z.boolean(),
  /** Those after `told`, in order. */
  tell: z.array(Tell).max(tellsMax),
});

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
    steers: z.boolean(),
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
    inputTokens: z.number().int().nonnegative(),
    cachedTokens: z.number().int().nonnegative(),
    outputTokens: z.number().int().nonnegative(),
    costMicroUsd: z.number().int().nonnegative(),
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
  /** What the agent knows of the runs before: its own session, a written hand-over, or nothing. */
  z.strictObject({
    ...numbered,
    type: z.literal("session"),
    from: z.enum(["session", "handover", "nothing"]),
    /** Why it is not its session, as a piece of a sentence; empty when it is. */
    why: z.string().max(300),
  }),
  /** A tell that reached the agent. */
  z.strictObject({
    ...numbered,
    type: z.literal("told"),
    id: z.number().int().positive(),
    by: z.string().max(100),
    text: z.string().max(tellMax),
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

export const TokenRequest = z.strictObject({
  attempt: z.number().int().positive(),
  /** `push` its branch, or `read` what is said about the repository: issues, pull requests, checks. */
  purpose: z.enum(["push", "read"]),
});
export type TokenPurpose = z.infer<typeof TokenRequest>["purpose"];
/** A token for the one repository of this attempt; `expiresAt` in milliseconds since 1970. */
export const TokenAnswer = z.strictObject({ token: z.string(), expiresAt: z.number().int() });

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

/** What the app sends over the stream; each only wakes, the truth is asked for by POST. */
export const StreamMessage = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("hello"), protocol: z.number().int() }),
  z.strictObject({ type: z.literal("wake") }),
  z.strictObject({ type: z.literal("cancel"), run: RunId, attempt: z.number().int().positive() }),
  /** Somebody has said something to a run: its renewal carries the words. */
  z.strictObject({ type: z.literal("tell"), run: RunId, attempt: z.number().int().positive() }),
  z.strictObject({ type: z.literal("drain") }),
]);
export type StreamMessage = z.infer<typeof StreamMessage>;

/** Every refusal of the door; `error` is for people, `code` for programs. */
export const Refusal = z.strictObject({
  code: z.enum(["unauthorized", "protocol", "stale", "gap", "invalid", "unknown"]),
  error: z.string(),
});
export type Refusal = z.infer<typeof Refusal>;
