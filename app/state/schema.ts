import { sql } from "drizzle-orm";
import {
  index,
  integer,
  primaryKey,
  sqliteTable,
  text,
  uniqueIndex,
} from "drizzle-orm/sqlite-core";
import type { FailureCode } from "../protocol/failure.ts";
import type { Stage } from "../protocol/wire.ts";

// Every time is in milliseconds since 1970. The file named over each table is the only one to write it.

/** webhook.ts: one webhook of GitHub's, kept until it is handled; then only its number stays. */
export const deliveries = sqliteTable(
  "deliveries",
  {
    guid: text("guid").primaryKey(),
    event: text("event").notNull(),
    /** The verified bytes; emptied once handled. */
    payload: text("payload").notNull(),
    state: text("state", { enum: ["pending", "handled", "failed"] }).notNull(),
    attempts: integer("attempts").notNull().default(0),
    error: text("error"),
    receivedAt: integer("received_at").notNull(),
    dueAt: integer("due_at").notNull(),
  },
  (t) => [
    index("deliveries_pending").on(t.receivedAt).where(sql`state = 'pending'`),
    index("deliveries_old").on(t.receivedAt),
  ],
);

/** intent.ts: what somebody wanted, once a delivery; refused ones with the reason. */
export const intents = sqliteTable("intents", {
  /** The delivery's number: what makes an effect happen once. */
  key: text("key").primaryKey(),
  kind: text("kind", {
    enum: ["label", "comment", "review", "button", "ci", "schedule", "pull", "repository"],
  }).notNull(),
  repository: text("repository").notNull(),
  issue: integer("issue").notNull(),
  sender: text("sender").notNull(),
  outcome: text("outcome", {
    enum: ["run", "cancel", "done", "refused", "answered", "offered", "ended"],
  }).notNull(),
  reason: text("reason").notNull(),
  runId: text("run_id"),
  at: integer("at").notNull(),
});

/** workspace.ts: the App's installations that were heard of. */
export const workspaces = sqliteTable("workspaces", {
  id: integer("id").primaryKey(),
  account: text("account").notNull(),
  /** Suspended: nothing is claimed until it is taken back. */
  state: text("state", { enum: ["active", "suspended", "gone"] }).notNull(),
});

/** A source of work in trimo.yml that fires at set times. */
export type Schedule = {
  schedule: string;
  query: string;
  most: number;
  agent: string | null;
};

/** schedule.ts: repositories whose trimo.yml names set times. */
export const schedules = sqliteTable("schedules", {
  repositoryId: integer("repository_id").primaryKey(),
  workspace: integer("workspace").notNull(),
  repository: text("repository").notNull(),
  defaultBranch: text("default_branch").notNull(),
  sources: text("sources", { mode: "json" }).$type<Schedule[]>().notNull(),
  /** Up to which time firings have been looked at. */
  lookedAt: integer("looked_at").notNull(),
});

/** pipeline.ts: one line of work on one branch. */
export const pipelines = sqliteTable(
  "pipelines",
  {
    id: text("id").primaryKey(),
    workspace: integer("workspace").notNull(),
    repository: text("repository").notNull(),
    repositoryId: integer("repository_id").notNull(),
    issue: integer("issue").notNull(),
    title: text("title").notNull(),
    branch: text("branch").notNull(),
    baseBranch: text("base_branch").notNull(),
    /** The base's commit the pipeline stands on; null until GitHub was asked. */
    baseSha: text("base_sha"),
    /** The opening commit; null until the branch exists, '' where none was wanted. */
    openingSha: text("opening_sha"),
    /** The newest commit known on GitHub; null until the branch exists. */
    headSha: text("head_sha"),
    pullRequest: text("pull_request", { enum: ["draft", "ready", "manual"] }).notNull(),
    pullNumber: integer("pull_number"),
    pullNodeId: text("pull_node_id"),
    pullState: text("pull_state", { enum: ["draft", "open", "closed"] }),
    /** Closing: a run that changed nothing was the last; GitHub is being told. */
    state: text("state", { enum: ["open", "closing", "closed"] }).notNull(),
    /** A person's own pull request: its title, text, draft state and branch are theirs. */
    adopted: integer("adopted", { mode: "boolean" }).notNull().default(false),
    /** The label trimo:hold is on it: none of its runs is claimed. */
    held: integer("held", { mode: "boolean" }).notNull().default(false),
    /** Above 0 with the label trimo:now on it; its runs take it over. */
    priority: integer("priority").notNull().default(0),
    /** Somebody said `/trimo done`: the pull request is wanted, and ready. */
    done: integer("done", { mode: "boolean" }).notNull().default(false),
    /** Whether the branch goes when its pull request is merged, as trimo.yml said at the opening. */
    deleteBranch: integer("delete_branch", { mode: "boolean" }).notNull().default(false),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [
    uniqueIndex("pipelines_branch").on(t.repositoryId, t.branch),
    index("pipelines_issue").on(t.repositoryId, t.issue),
    index("pipelines_recent").on(t.createdAt),
  ],
);

export const runStates = [
  "queued",
  "claimed",
  "running",
  "succeeded",
  "failed",
  "cancelled",
  "timed_out",
  "lost",
] as const;
export type RunState = (typeof runStates)[number];

/** run.ts: one prompt executed once. */
export const runs = sqliteTable(
  "runs",
  {
    id: text("id").primaryKey(),
    pipelineId: text("pipeline_id")
      .notNull()
      .references(() => pipelines.id),
    workspace: integer("workspace").notNull(),
    repository: text("repository").notNull(),
    number: integer("number").notNull(),
    state: text("state", { enum: runStates }).notNull(),
    stage: text("stage").$type<Stage>(),
    attempt: integer("attempt").notNull().default(0),
    /** What was asked, in the person's words. */
    prompt: text("prompt").notNull(),
    kind: text("kind", { enum: ["run", "fix", "continue", "retry"] })
      .notNull()
      .default("run"),
    /** Hash of what was wished for, as it was: by it the same wish a moment later is known. */
    wish: text("wish").notNull().default(""),
    /** What the agent is told: the prompt with all that belongs to it; null until it is put together. */
    composed: text("composed"),
    /** The image that was asked for by name; `image` is the one it ran in. */
    askedImage: text("asked_image"),
    /** What an agent without its session of this pipeline is told besides: the runs before. */
    handover: text("handover").notNull().default(""),
    /** Neither session nor hand-over is wanted. */
    fresh: integer("fresh", { mode: "boolean" }).notNull().default(false),
    /** The repository's agents in turn: the next takes over when one's quota is used up. */
    fallback: text("fallback", { mode: "json" }).$type<string[]>().notNull().default([]),
    /** Its agent takes messages while it works. */
    steers: integer("steers", { mode: "boolean" }).notNull().default(false),
    /** What it has used up: tokens in and out, and millionths of a US dollar. */
    tokens: integer("tokens").notNull().default(0),
    costMicroUsd: integer("cost_micro_usd").notNull().default(0),
    /** The issue or pull request where it was asked, and where its comment is; 0: the pipeline's issue. */
    thread: integer("thread").notNull().default(0),
    /** The label that asked for it, to be taken off at the end. */
    label: text("label"),
    requestedBy: text("requested_by").notNull(),
    /** What triggered it, as a person would say it: `label trimo`, `/trimo fix`. */
    trigger: text("trigger").notNull(),
    agent: text("agent"),
    image: text("image"),
    daemon: text("daemon"),
    /** Daemons that declined it, a comma between; they are not offered it again. */
    declinedBy: text("declined_by").notNull().default(""),
    priority: integer("priority").notNull().default(0),
    failureCode: text("failure_code").$type<FailureCode>(),
    failureDetail: text("failure_detail"),
    cancelledBy: text("cancelled_by"),
    changed: integer("changed", { mode: "boolean" }).notNull().default(false),
    commits: integer("commits").notNull().default(0),
    /** The highest contiguous event of the current attempt. */
    lastSeq: integer("last_seq").notNull().default(0),
    commentId: integer("comment_id"),
    /** Hash of the comment as written last: only differences are sent. */
    commentHash: text("comment_hash"),
    /** The newest commit on GitHub this run stands on or has made; its check run belongs there. */
    headSha: text("head_sha"),
    /** When it was asked for, as GitHub says it; what is said or edited later is not of this run. */
    askedAt: integer("asked_at").notNull().default(0),
    createdAt: integer("created_at").notNull(),
    startedAt: integer("started_at"),
    endedAt: integer("ended_at"),
  },
  (t) => [
    uniqueIndex("runs_number").on(t.pipelineId, t.number),
    index("runs_queue").on(t.priority, t.createdAt).where(sql`state = 'queued'`),
    index("runs_live").on(t.pipelineId).where(sql`state in ('claimed', 'running')`),
    index("runs_recent").on(t.createdAt),
  ],
);

/** lease.ts: who holds a run's attempt, until when. */
export const leases = sqliteTable(
  "leases",
  {
    runId: text("run_id").primaryKey(),
    attempt: integer("attempt").notNull(),
    daemonId: text("daemon_id").notNull(),
    /** The claim that won it, so that asking again gives the same job. */
    claimKey: text("claim_key").notNull(),
    expiresAt: integer("expires_at").notNull(),
    cancel: integer("cancel", { mode: "boolean" }).notNull().default(false),
  },
  (t) => [index("leases_end").on(t.expiresAt)],
);

/** daemons.ts */
export const daemons = sqliteTable("daemons", {
  id: text("id").primaryKey(),
  name: text("name").notNull().unique(),
  /** SHA-256 of the token; the token itself is shown once and kept nowhere. */
  tokenHash: text("token_hash").notNull().unique(),
  /** The account whose repositories it may serve; null: every one of this app. */
  account: text("account"),
  version: text("version"),
  slots: integer("slots").notNull().default(0),
  repositories: text("repositories", { mode: "json" }).$type<string[]>().notNull(),
  agents: text("agents", { mode: "json" }).$type<string[]>().notNull(),
  /** Which start of it was heard of last. */
  start: text("start").notNull().default(""),
  seenAt: integer("seen_at"),
  createdAt: integer("created_at").notNull(),
});

/** pause.ts: agents of a machine whose service takes no more requests until then. */
export const pauses = sqliteTable(
  "pauses",
  {
    daemonId: text("daemon_id").notNull(),
    agent: text("agent").notNull(),
    until: integer("until").notNull(),
  },
  (t) => [primaryKey({ columns: [t.daemonId, t.agent] })],
);

/** tell.ts: what people said to a run while it worked, numbered from 1 for each run. */
export const tells = sqliteTable(
  "tells",
  {
    runId: text("run_id").notNull(),
    id: integer("id").notNull(),
    by: text("by").notNull(),
    text: text("text").notNull(),
    at: integer("at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.runId, t.id] })],
);

/** event.ts: append-only. Attempt 0 is the app's own; `data` is the event without its number. */
export const events = sqliteTable(
  "events",
  {
    id: integer("id").primaryKey({ autoIncrement: true }),
    runId: text("run_id").notNull(),
    attempt: integer("attempt").notNull(),
    seq: integer("seq").notNull(),
    at: integer("at").notNull(),
    type: text("type").notNull(),
    data: text("data", { mode: "json" }).$type<Record<string, unknown>>().notNull(),
  },
  (t) => [uniqueIndex("events_number").on(t.runId, t.attempt, t.seq)],
);

/** report.ts: one wanted state of a GitHub object; true when `written` has reached `wanted`. */
export const reports = sqliteTable(
  "reports",
  {
    kind: text("kind", {
      enum: [
        "reaction",
        "pipeline",
        "pull",
        "prompt",
        "check",
        "config",
        "comment",
        "reply",
        "label",
        "branch",
      ],
    }).notNull(),
    subject: text("subject").notNull(),
    workspace: integer("workspace").notNull(),
    wanted: integer("wanted").notNull(),
    written: integer("written").notNull().default(0),
    /** A POST may have been sent without its answer: look before creating again. */
    tried: integer("tried", { mode: "boolean" }).notNull().default(false),
    /** For replies and reactions: where, and the words. */
    data: text("data", { mode: "json" }).$type<Record<string, unknown>>(),
    attempts: integer("attempts").notNull().default(0),
    dueAt: integer("due_at").notNull(),
    /** Somebody waits for it: before all that only shows progress. */
    urgent: integer("urgent", { mode: "boolean" }).notNull().default(true),
    error: text("error"),
  },
  (t) => [
    primaryKey({ columns: [t.kind, t.subject] }),
    index("reports_due").on(t.workspace, t.dueAt).where(sql`written < wanted`),
  ],
);

/** report.ts: the check runs made on GitHub, one a run and commit. */
export const checkRuns = sqliteTable(
  "check_runs",
  {
    runId: text("run_id").notNull(),
    sha: text("sha").notNull(),
    remoteId: integer("remote_id"),
    /** A POST may have been sent: look for the external id first. */
    tried: integer("tried", { mode: "boolean" }).notNull().default(false),
    completed: integer("completed", { mode: "boolean" }).notNull().default(false),
    /** Hash of what was written last: only differences are sent. */
    written: text("written").notNull().default(""),
  },
  (t) => [primaryKey({ columns: [t.runId, t.sha] })],
);
