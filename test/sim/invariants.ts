import type { Reads } from "../../app/state/database.ts";
import { idleWithFailedCi } from "../../app/state/pipeline.ts";
import { openStates } from "../../app/state/run.ts";
import {
  deliveries,
  events,
  intents,
  leases,
  pipelines,
  reports,
  runs,
} from "../../app/state/schema.ts";
import type { GitHubState } from "./github-state.ts";

// What must hold when a story is over and all has come to rest.

/** Something that people said, for the invariants. Times in milliseconds since 1970. */
export type Said = { issue: number; words: string; at: number; key: string | null };

/** When a machine first began with a run, and last ended. */
export type RunTimes = { beganAt: number; endedAt: number };

type Parts = {
  db: Reads;
  github: GitHubState;
  said: Said[];
  /** When a run began and ended, on its machine. */
  times: Map<string, RunTimes>;
  /** The time of the world at which the app wrote down something, by its own clock. */
  worldTime: (appTime: number, notBefore: number) => number;
  violate: (what: string) => void;
};
type Run = typeof runs.$inferSelect;
type Pipeline = typeof pipelines.$inferSelect;

/** What may come of what a story breaks; all else there is a fault of Trimo's. */
const explained = ["container_died", "daemon_lost"];
const isOpen = (run: Run) => openStates.some((state) => state === run.state);
/** github.com's limits of content: so many a minute, and an hour. */
const limits = [
  { ms: 60_000, most: 80 },
  { ms: 3_600_000, most: 500 },
];

/** Whether nothing is left to do but what waits for a person. */
export async function isQuiet(db: Reads, github: GitHubState): Promise<boolean> {
  const stored = await db.select({ state: deliveries.state }).from(deliveries);
  const pending = stored.some(({ state }) => state === "pending");
  const missing = stored.length < github.deliveries.length;
  const unwritten = (await db.select().from(reports)).some((row) => row.written < row.requested);
  if (pending || missing || unwritten) return false;
  // CI that failed is taken up a minute after GitHub has refused something of it.
  if ((await idleWithFailedCi(db)).length > 0) return false;
  const held = new Set((await db.select().from(pipelines)).filter((p) => p.held).map((p) => p.id));
  return (await db.select().from(runs)).every((run) => !isOpen(run) || held.has(run.pipelineId));
}

/** Judges the world at rest; gives how many runs there were. */
export async function judge(parts: Parts): Promise<number> {
  const all = {
    runs: await parts.db.select().from(runs),
    pipelines: await parts.db.select().from(pipelines),
  };
  for (const run of all.runs) judgeRun(parts, run, pipelineOf(all.pipelines, run));
  for (const pipeline of all.pipelines) {
    judgePipeline(parts, pipeline);
    judgeFailedCi(parts, pipeline, all.runs);
  }
  await judgeEvents(parts, all.runs);
  await judgeStored(parts);
  await judgeWishes(parts, all);
  judgeReplies(parts);
  judgePace(parts);
  return all.runs.length;
}

function pipelineOf(all: Pipeline[], run: Run): Pipeline {
  const found = all.find(({ id }) => id === run.pipelineId);
  if (!found) throw new Error(`run ${run.id} has no pipeline`);
  return found;
}

const nameOf = (run: Run, { issue }: Pipeline) => `run ${run.number} of #${issue} (${run.state})`;
const isHeld = ({ github }: Parts, { issue }: Pipeline) => github.labelsOn(issue).has("trimo:hold");

/**
 * A run has ended or waits for a person; it has one comment, and one completed check a commit. A run that was
 * lost and goes on has another beside the one that said so: a completed check run cannot be reopened.
 */
function judgeRun(parts: Parts, run: Run, pipeline: Pipeline) {
  const { github, violate } = parts;
  const name = nameOf(run, pipeline);
  if (isOpen(run)) {
    if (!(pipeline.held && isHeld(parts, pipeline))) violate(`${name} never ends`);
    return;
  }
  if (run.failureCode && !explained.includes(run.failureCode))
    violate(`${name} failed for nothing: ${run.failureCode} ${run.failureDetail}`);
  const checks = github.checks.filter((check) => check.externalId === run.id);
  for (const { sha, status } of checks) {
    if (status !== "completed") violate(`a check of ${name} stays ${status}`);
    const others = checks.filter((check) => check.sha === sha).slice(0, -1);
    if (others.some(({ title }) => !title.startsWith("Lost:")))
      violate(`${name} has several checks on one commit`);
  }
  const marker = `trimo:run=${run.id}`;
  const comments = [...github.comments.values()].flat().filter((one) => one.body.includes(marker));
  if (comments.length !== 1) violate(`${name} has ${comments.length} comments`);
}

/** One pull request a branch, and held exactly while the label is on. */
function judgePipeline(parts: Parts, pipeline: Pipeline) {
  const { github, violate } = parts;
  const pulls = github.pulls.filter((pull) => pull.head === pipeline.branch);
  if (pulls.length > 1) violate(`${pipeline.branch} has ${pulls.length} pull requests`);
  const [pull] = pulls;
  if (pipeline.state === "open") {
    const labelled = isHeld(parts, pipeline);
    if (pipeline.held !== labelled)
      violate(`#${pipeline.issue} is ${pipeline.held ? "" : "not "}held, its label says otherwise`);
    const hasteful = github.labelsOn(pipeline.issue).has("trimo:now");
    if (pipeline.priority > 0 !== hasteful)
      violate(`#${pipeline.issue} has priority ${pipeline.priority}, its label says otherwise`);
  }
  if (pull && pipeline.state === "open" && pull.state === "closed")
    violate(`#${pipeline.issue} is open, its pull request is closed`);
  if (pull && pipeline.state === "closed" && pull.state !== "closed")
    violate(`#${pipeline.issue} is closed, its pull request is ${pull.state}`);
}

/** CI that failed on what a run has left, and nobody has built on since, is offered. */
function judgeFailedCi({ github, violate }: Parts, pipeline: Pipeline, runs: Run[]) {
  const { branch, headSha, issue } = pipeline;
  if (pipeline.state !== "open") return;
  const isRuns = runs.some((run) => run.pipelineId === pipeline.id && run.headSha === headSha);
  const isLive = runs.some((run) => run.pipelineId === pipeline.id && isOpen(run));
  for (const { sha } of github.failed.filter((one) => one.branch === branch)) {
    if (sha !== headSha || sha === pipeline.openingSha || !isRuns || isLive) continue;
    const words = `failed on ${sha.slice(0, 7)}`;
    const all = [...github.comments.values()].flat();
    if (!all.some(({ body }) => body.includes(words)))
      violate(`CI failed on the head of #${issue}, and nobody was told`);
  }
}

/** Each attempt's events are numbered without a gap. */
async function judgeEvents({ db, violate }: Parts, all: Run[]) {
  const rows = await db.select().from(events);
  for (const run of all)
    for (let attempt = 1; attempt <= run.attempt; attempt++) {
      const seqs = rows
        .filter((row) => row.runId === run.id && row.attempt === attempt)
        .map((row) => row.seq)
        .sort((a, b) => a - b);
      if (seqs.some((seq, i) => seq !== i + 1)) violate(`the events of run ${run.id} have a gap`);
    }
}

/** Nothing is left over in the tables. */
async function judgeStored({ db, github, violate }: Parts) {
  const rows = await db.select().from(deliveries);
  for (const row of rows)
    if (row.state !== "handled") violate(`a delivery (${row.event}) is ${row.state}: ${row.error}`);
  const here = new Set(rows.map((row) => row.guid));
  for (const { guid, event } of github.deliveries)
    if (!here.has(guid)) violate(`a delivery (${event}) never came in`);
  for (const row of await db.select().from(reports)) {
    if (row.written < row.requested)
      violate(`a report (${row.kind}) is never written: ${row.error}`);
    else if (row.error) violate(`a report (${row.kind}) is given up: ${row.error}`);
  }
  for (const lease of await db.select().from(leases)) violate(`the lease of ${lease.runId} stays`);
}

/** Each command has one effect, and a cancel ends every wish said before it. */
async function judgeWishes(parts: Parts, all: { runs: Run[]; pipelines: Pipeline[] }) {
  const { db, said, times, violate } = parts;
  const rows = await db.select().from(intents);
  const intentOf = (one: Said) => rows.find((intent) => intent.key === one.key);
  const spoken = said.filter((one) => one.key !== null);
  for (const one of spoken)
    if (!intentOf(one)) violate(`"${one.words}" at #${one.issue} had no effect`);
  for (const cancel of spoken.filter(({ words }) => words === "/trimo cancel")) {
    const heard = intentOf(cancel);
    if (!heard) continue;
    const heardAt = parts.worldTime(heard.at, cancel.at);
    for (const wish of spoken) {
      if (wish.issue !== cancel.issue || wish.at >= cancel.at) continue;
      if (!/^\/trimo (run|fix)/.test(wish.words)) continue;
      const run = all.runs.find(({ id }) => id === intentOf(wish)?.runId);
      const endedAt = times.get(run?.id ?? "")?.endedAt ?? Number.POSITIVE_INFINITY;
      if (!run || run.cancelledBy !== null || endedAt < heardAt) continue;
      const seconds = ((cancel.at - wish.at) / 1_000).toFixed(1);
      violate(`"${wish.words}" began, though "/trimo cancel" was said ${seconds} s after it`);
    }
  }
}

/** Nothing is said twice. */
function judgeReplies({ github, violate }: Parts) {
  const counts = new Map<string, number>();
  for (const { body } of [...github.comments.values()].flat()) {
    const subject = /trimo:reply=(\S+)/.exec(body)?.[1];
    if (subject) counts.set(subject, (counts.get(subject) ?? 0) + 1);
  }
  for (const [subject, count] of counts)
    if (count > 1) violate(`the reply ${subject.split(":")[0]} was said ${count} times`);
}

/** GitHub's limits of content are kept. */
function judgePace({ github, violate }: Parts) {
  for (const { ms, most } of limits)
    for (const [i, at] of github.written.entries()) {
      const first = github.written[i - most];
      if (first !== undefined && at - first < ms)
        return violate(`more than ${most} comments and pull requests in ${ms / 60_000} min`);
    }
}
