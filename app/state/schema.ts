import { sql } from "drizzle-orm";
import {
  index,
  integer,
  primaryKey,
  sqliteTable,
  text,
  uniqueIndex,
} from "drizzle-orm/sqlite-core";
import type { Stage } from "../protocol/event.ts";
import { type FailureCode, pausingCodes } from "../protocol/failure.ts";
import type { Cause } from "./cause.ts";
import type { FailedCi } from "./failed-ci.ts";
import type { IntentRequest } from "./intent-request.ts";
import type { Origin } from "./origin.ts";
import type { Reply } from "./reply.ts";
import type { Schedule } from "./schedule-source.ts";

// Every time is in milliseconds since 1970. The file named over each table is the only one that writes it.

/** delivery.ts: one webhook of GitHub's, kept until it is handled; then only its GUID stays. */
export const deliveries = sqliteTable(
  "deliveries",
  {
    guid: text("guid").primaryKey(),
    event: text("event").notNull(),
    /** The verified bytes; emptied once handled. */
    payload: text("payload").notNull(),
    /** The repository, issue or pull request, and branch it tells of: its place in line. Null: none. */
    repositoryId: integer("repository_id"),
    thread: integer("thread"),
    branch: text("branch"),
    /** Somebody asks for a run to be stopped: it waits for nothing before it. */
    express: integer("express", { mode: "boolean" }).notNull().default(false),
    /** Failed: tried again only hourly, and at a start. */
    state: text("state", { enum: ["pending", "handled", "failed"] }).notNull(),
    attempts: integer("attempts").notNull().default(0),
    /** How often GitHub has refused in a row, and since when. */
    refusals: integer("refusals").notNull().default(0),
    refusedSince: integer("refused_since"),
    error: text("error"),
    receivedAt: integer("received_at").notNull(),
    dueAt: integer("due_at").notNull(),
  },
  (t) => [
    index("deliveries_pending").on(t.receivedAt).where(sql`state = 'pending'`),
    index("deliveries_failed").on(t.dueAt).where(sql`state = 'failed'`),
    index("deliveries_old").on(t.receivedAt),
  ],
);

/** intent.ts: what somebody asked for, once a delivery; also what was refused. */
export const intents = sqliteTable(
  "intents",
  {
    /** The delivery's GUID, or a schedule's firing: what makes an effect happen once. */
    key: text("key").primaryKey(),
    kind: text("kind", {
      enum: ["label", "comment", "review", "button", "ci", "schedule", "pull", "repository"],
    }).notNull(),
    repository: text("repository").notNull(),
    /** The issue or pull request; null: the repository as a whole. */
    issue: integer("issue"),
    sender: text("sender").notNull(),
    outcome: text("outcome", {
      enum: ["run", "cancel", "done", "refused", "answered", "offered", "ended"],
    }).notNull(),
    /** What was asked for. */
    request: text("request", { mode: "json" }).$type<IntentRequest>().notNull(),
    /** What was answered; null: nothing. */
    reply: text("reply", { mode: "json" }).$type<Reply>(),
    runId: text("run_id"),
    /** When it was said, as GitHub says it, in whole seconds; null: it does not say. */
    saidAt: integer("said_at"),
    /** The comment it was said in, by which those of one second are told apart; null: in none. */
    commentId: integer("comment_id"),
    at: integer("at").notNull(),
  },
  (t) => [
    index("intents_thread").on(t.repository, t.issue, t.at),
    index("intents_run").on(t.runId),
    index("intents_recent").on(t.at),
  ],
);

/** mark.ts: up to when, in milliseconds since 1970, something was looked at. */
export const marks = sqliteTable("marks", {
  name: text("name").primaryKey(),
  at: integer("at").notNull(),
});

/** workspace.ts: the installations of the App that Trimo has heard of. */
export const workspaces = sqliteTable("workspaces", {
  id: integer("id").primaryKey(),
  account: text("account").notNull(),
  /** Suspended: nothing is claimed until the suspension is lifted. */
  state: text("state", { enum: ["active", "suspended", "gone"] }).notNull(),
});

/** schedule.ts: repositories whose trimo.yml has schedules. */
export const schedules = sqliteTable("schedules", {
  repositoryId: integer("repository_id").primaryKey(),
  workspace: integer("workspace").notNull(),
  repository: text("repository").notNull(),
  defaultBranch: text("default_branch").notNull(),
  sources: text("sources", { mode: "json" }).$type<Schedule[]>().notNull(),
  /** The time up to which firings have had their effect. */
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
    /** The opening commit; null while there is none, and where none is wanted. */
    openingSha: text("opening_sha"),
    /** Its branch is made, or will be by the first commit: its runs can be claimed. */
    branchReady: integer("branch_ready", { mode: "boolean" }).notNull().default(false),
    /** The newest commit known on GitHub; null until the branch exists. */
    headSha: text("head_sha"),
    pullRequest: text("pull_request", { enum: ["draft", "ready", "manual"] }).notNull(),
    pullNumber: integer("pull_number"),
    pullNodeId: text("pull_node_id"),
    pullState: text("pull_state", { enum: ["draft", "open", "closed"] }),
    /** Closing: no run changed anything, and GitHub is being told. */
    state: text("state", { enum: ["open", "closing", "closed"] }).notNull(),
    /** A person's own pull request: its title, text, draft state and branch are theirs. */
    adopted: integer("adopted", { mode: "boolean" }).notNull().default(false),
    /** The label trimo:hold is on it: none of its runs is claimed. */
    held: integer("held", { mode: "boolean" }).notNull().default(false),
    /** Above 0 while the label trimo:now is on it; its runs take it over. */
    priority: integer("priority").notNull().default(0),
    /** Somebody said `/trimo done`: the pull request is wanted, and ready. */
    done: integer("done", { mode: "boolean" }).notNull().default(false),
    /** Whether the branch is deleted when its pull request is merged, as trimo.yml said at the opening. */
    deleteBranch: integer("delete_branch", { mode: "boolean" }).notNull().default(false),
    /** CI that failed on its head while a run was under way: taken up at that run's end. Null: none did. */
    failedCi: text("failed_ci", { mode: "json" }).$type<FailedCi>(),
    createdAt: integer("created_at").notNull(),
  },
  (t) => [
    uniqueIndex("pipelines_branch").on(t.repositoryId, t.branch),
    index("pipelines_issue").on(t.repositoryId, t.issue),
    index("pipelines_pull").on(t.repositoryId, t.pullNumber),
    index("pipelines_recent").on(t.createdAt),
  ],
);

/** pipeline.ts: what has happened to a pipeline, append-only; `data` is the fact without its type. */
export const pipelineEvents = sqliteTable(
  "pipeline_events",
  {
    id: integer("id").primaryKey({ autoIncrement: true }),
    pipelineId: text("pipeline_id").notNull(),
    at: integer("at").notNull(),
    type: text("type").notNull(),
    data: text("data", { mode: "json" }).$type<Record<string, unknown>>().notNull(),
  },
  (t) => [index("pipeline_events_of").on(t.pipelineId, t.id)],
);

/** Every state a run can be in. */
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
    kind: text("kind", { enum: ["run", "fix", "continue", "retry"] })
      .notNull()
      .default("run"),
    /** Hash of the request as it was made, by which a duplicate is recognised; null: none can come. */
    requestHash: text("request_hash"),
    /** The image that was asked for by name; `image` is the one it ran in. */
    askedImage: text("asked_image"),
    /** Neither session nor handoff is wanted. */
    fresh: integer("fresh", { mode: "boolean" }).notNull().default(false),
    /** The repository's agents in turn: the next takes over when one's quota is used up. */
    fallback: text("fallback", { mode: "json" }).$type<string[]>().notNull().default([]),
    /** Its agent takes messages while it works. */
    acceptsMessages: integer("accepts_messages", { mode: "boolean" }).notNull().default(false),
    /** What it has used up: tokens in and out, and millionths of a US dollar. */
    tokens: integer("tokens").notNull().default(0),
    costMicroUsd: integer("cost_micro_usd").notNull().default(0),
    /** The issue or pull request where it was asked for, and where its comment is. */
    thread: integer("thread").notNull(),
    /** The label that asked for it, to be removed at the end. */
    label: text("label"),
    requestedBy: text("requested_by").notNull(),
    /** What asked for it. */
    origin: text("origin", { mode: "json" }).$type<Origin>().notNull(),
    agent: text("agent"),
    image: text("image"),
    daemon: text("daemon"),
    /** Ids of daemons that declined it; they are not offered it again. */
    declinedBy: text("declined_by", { mode: "json" }).$type<string[]>().notNull().default([]),
    priority: integer("priority").notNull().default(0),
    failureCode: text("failure_code").$type<FailureCode>(),
    failureDetail: text("failure_detail"),
    /** What is stopping it, or has; null: nothing. */
    cancelledBy: text("cancelled_by", { mode: "json" }).$type<Cause>(),
    changed: integer("changed", { mode: "boolean" }).notNull().default(false),
    commits: integer("commits").notNull().default(0),
    /** The highest contiguous event of the current attempt. */
    lastSeq: integer("last_seq").notNull().default(0),
    commentId: integer("comment_id"),
    /** Somebody has deleted its comment: it is not written again. */
    commentDeleted: integer("comment_deleted", { mode: "boolean" }).notNull().default(false),
    /** Hash of the comment as written last: only differences are sent. */
    commentHash: text("comment_hash"),
    /** The newest commit on GitHub this run stands on or has made; its check run belongs there. */
    headSha: text("head_sha"),
    /** When it was asked for, as GitHub says it; what is said or edited later does not count for it. */
    askedAt: integer("asked_at").notNull(),
    createdAt: integer("created_at").notNull(),
    startedAt: integer("started_at"),
    endedAt: integer("ended_at"),
    // Last: what comes before long words is read without them.
    /** What was asked, in the person's words. */
    prompt: text("prompt").notNull(),
    /** What the agent is told: the prompt with all that belongs to it; null until it is composed. */
    composed: text("composed"),
    /** What an agent without its session of this pipeline is told besides: the runs before. */
    handoff: text("handoff").notNull().default(""),
  },
  (t) => [
    uniqueIndex("runs_number").on(t.pipelineId, t.number),
    index("runs_queue").on(t.priority, t.createdAt).where(sql`state = 'queued'`),
    index("runs_live").on(t.pipelineId).where(sql`state in ('claimed', 'running')`),
    index("runs_recent").on(t.createdAt),
    index("runs_ended").on(t.endedAt),
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

/** daemon.ts: the enrolled daemons, one a machine. */
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
  /** Which of its starts was heard of last. */
  start: text("start").notNull().default(""),
  seenAt: integer("seen_at"),
  createdAt: integer("created_at").notNull(),
});

/** pause.ts: agents of a daemon whose service takes no more requests until then. */
export const pauses = sqliteTable(
  "pauses",
  {
    daemonId: text("daemon_id").notNull(),
    agent: text("agent").notNull(),
    until: integer("until").notNull(),
    /** What its service did last. */
    code: text("code", { enum: pausingCodes }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.daemonId, t.agent] })],
);

/** message.ts: what people said to a run while it worked, numbered from 1 for each run. */
export const messages = sqliteTable(
  "messages",
  {
    runId: text("run_id").notNull(),
    id: integer("id").notNull(),
    by: text("by").notNull(),
    text: text("text").notNull(),
    at: integer("at").notNull(),
  },
  (t) => [primaryKey({ columns: [t.runId, t.id] })],
);

/** event.ts: append-only. Attempt 0 is the app's own; `data` is the fact without its type. */
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

/** Every kind of object on GitHub that a report makes true; most urgent first among equals. */
export const reportKinds = [
  "reaction",
  "pipeline",
  "prompt",
  "check",
  "pull",
  "comment",
  "reply",
  "config",
  "label",
  "branch",
] as const;
export type ReportKind = (typeof reportKinds)[number];

/** report.ts: one object on GitHub to be made true; it is when `written` has reached `requested`. */
export const reports = sqliteTable(
  "reports",
  {
    kind: text("kind", { enum: reportKinds }).notNull(),
    subject: text("subject").notNull(),
    workspace: integer("workspace").notNull(),
    requested: integer("requested").notNull(),
    written: integer("written").notNull().default(0),
    /** When a POST was first sent, perhaps without its answer: look before creating again. Null: none was. */
    triedAt: integer("tried_at"),
    /** What is written, where the subject does not say it all. */
    data: text("data", { mode: "json" }).$type<Record<string, unknown>>(),
    attempts: integer("attempts").notNull().default(0),
    refusals: integer("refusals").notNull().default(0),
    refusedSince: integer("refused_since"),
    dueAt: integer("due_at").notNull(),
    /** Somebody waits for it: before all that only shows progress. */
    urgent: integer("urgent", { mode: "boolean" }).notNull().default(true),
    error: text("error"),
  },
  (t) => [
    primaryKey({ columns: [t.kind, t.subject] }),
    index("reports_due").on(t.workspace, t.dueAt).where(sql`written < requested`),
  ],
);

/** check-run.ts: the check runs made on GitHub, one a run and commit. */
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
