import { join } from "node:path";
import { z } from "zod";
import { FailureCode } from "../../app/protocol/failure.ts";
import { Job } from "../../app/protocol/job.ts";
import { Settle } from "../../app/protocol/settle.ts";
import { AgentSettings } from "../agent-settings.ts";
import { nothingSpent } from "../agents/adapter.ts";
import type { Disk } from "../disk.ts";
import type { GateRequest } from "../repository/repositories.ts";
import { Outcome } from "./outcome.ts";

/** What a run was decided to be on this machine: from daemon.yml and trimo.yml, never from the app. */
export const Plan = z.object({
  agent: z.string(),
  image: z.string(),
  /** The Dockerfile that the image is built from; null: it is named. */
  build: z.string().nullable().default(null),
  /** The agent, as daemon.yml had it when the run began; of its key only where that is found. */
  settings: AgentSettings,
  /** What it began with: needed again to read its output from the first line. */
  launch: z.object({
    resume: z.string().nullable(),
    newSession: z.string(),
    /** There were runs since that session: its agent is told of them. */
    stale: z.boolean(),
    /** By which root inside may fetch and leave what the agent remembers. */
    sessionKey: z.string(),
    spentBefore: z.object({
      inputTokens: z.number(),
      cachedTokens: z.number(),
      outputTokens: z.number(),
      costMicroUsd: z.number(),
    }),
  }),
  /** What the run may use up; null: no limit. */
  tokens: z.number().nullable(),
  usd: z.number().nullable(),
  verify: z.array(z.string()),
  cpus: z.number(),
  memoryBytes: z.number(),
  pids: z.number(),
  diskBytes: z.number().default(20 * 2 ** 30),
  minutes: z.number(),
  prebootSeconds: z.number().default(300),
  /** How long each step of the container waits for a daemon that is gone. */
  awayMs: z.number().default(30 * 60_000),
  allow: z.array(z.string()),
  /** The branch's commit when the run began; null: the run makes the branch. */
  branchSha: z.string().nullable(),
  /** What the container was given to start from. */
  startSha: z.string(),
  /** What the agent is told besides its prompt: how the base has moved on. */
  driftNote: z.string().default(""),
});
export type Plan = Readonly<z.infer<typeof Plan>>;

/** Why the daemon itself ended an agent; `resetAt`: when the service gives more, in milliseconds since 1970. */
const LimitHit = z.object({
  code: FailureCode,
  text: z.string(),
  resetAt: z.number().nullable(),
});

/** All that a restarted daemon needs to go on with a run. */
const CurrentRecord = z.object({
  job: Job,
  plan: Plan.nullable(),
  containerId: z.string().nullable(),
  /** Its container ended before its work did: what is on the volume is to be rescued first. */
  died: z.object({ outOfMemory: z.boolean(), tail: z.string(), rescues: z.number() }).nullable(),
  /** Why the daemon ended the agent itself, by what the model's service said or it has used up. */
  limitHit: LimitHit.nullable(),
  /** GitHub has not taken its commits: the gate is kept. */
  keep: z.boolean(),
  /** Its volume may hold the only copy of its work: it stays when the run is over. */
  keepVolume: z.boolean().default(false),
  /** Its work is in the gate and what came of it is known: it waits for GitHub to take the commits. */
  pushing: z
    .object({ since: z.number(), outcome: Outcome, problem: LimitHit.nullable() })
    .nullable()
    .default(null),
  /** How it ended, once that is known: what is left is cleaning up and saying so. */
  end: Settle.nullable(),
});

export type RunRecord = Readonly<z.infer<typeof CurrentRecord>>;

/** Also one that a Trimo of protocol 3 or 4 left: its run's work is kept. */
const StoredRecord = z.preprocess(upgraded, CurrentRecord);

type Row = { [key: string]: unknown };
const isRow = (value: unknown): value is Row => typeof value === "object" && value !== null;

function upgraded(value: unknown): unknown {
  if (!isRow(value)) return value;
  const { job, plan, end, cut, ...rest } = value;
  return {
    limitHit: cut ?? null,
    ...rest,
    job: isRow(job) ? upgradedJob(job) : job,
    end: isRow(end) ? { quota: null, ...end } : null,
    plan: isRow(plan) ? upgradedPlan(plan) : null,
  };
}

const upgradedJob = ({ handover = "", ...job }: Row) => ({
  handoff: handover,
  fresh: false,
  ...job,
});

const upgradedPlan = ({ launch, finding = "", ...plan }: Row) => ({
  settings: { adapter: "script", command: plan.command },
  tokens: null,
  usd: null,
  driftNote: finding,
  ...plan,
  launch: upgradedLaunch(isRow(launch) ? launch : {}),
});

const upgradedLaunch = ({ memoryKey = "", ...launch }: Row) => ({
  resume: null,
  newSession: "",
  stale: false,
  sessionKey: memoryKey,
  spentBefore: nothingSpent,
  ...launch,
});

/** The folder of one attempt below the daemon's data folder. */
export const runFolder = (data: string, run: string, attempt: number): string =>
  join(data, "runs", `${run}-${attempt}`);

/** A record as a run begins, before anything is decided. */
const newRecord = (job: Job): RunRecord => ({
  job,
  plan: null,
  containerId: null,
  died: null,
  limitHit: null,
  keep: false,
  keepVolume: false,
  pushing: null,
  end: null,
});

/**
 * Writes record.json whole or not at all: a kill in the middle leaves the one before. A copy is beside it, for
 * a file system that loses a file at a power cut.
 */
export function writeRecord(disk: Disk, folder: string, record: RunRecord) {
  const text = JSON.stringify(record);
  // Last what is read first: where it cannot be written, nothing has changed.
  for (const path of recordPaths(folder).toReversed()) disk.replace(path, text);
}

const recordPaths = (folder: string): string[] => [
  join(folder, "record.json"),
  join(folder, "record.copy.json"),
];

/** The record of an attempt under way: every change is on disk before it returns. */
export class RecordFile {
  readonly #disk: Disk;
  readonly #folder: string;
  #current: RunRecord;

  private constructor(disk: Disk, folder: string, record: RunRecord) {
    this.#disk = disk;
    this.#folder = folder;
    this.#current = record;
  }

  /** Goes on with a record as it lies in the folder already. */
  static known(disk: Disk, folder: string, record: RunRecord): RecordFile {
    return new RecordFile(disk, folder, record);
  }

  /** Writes a new one for `job`, and makes the folder. */
  static create(disk: Disk, folder: string, job: Job): RecordFile {
    const file = new RecordFile(disk, folder, newRecord(job));
    file.update({});
    return file;
  }

  get current(): RunRecord {
    return this.#current;
  }

  /** Replaces the record by one with `changes`. */
  update(changes: Partial<RunRecord>) {
    const next = { ...this.#current, ...changes };
    writeRecord(this.#disk, this.#folder, next);
    this.#current = next;
  }
}

type Found = {
  folder: string;
  /** Null: there is none, or it cannot be read. */
  record: RunRecord | null;
  /** There is one that cannot be read: its run's work must not be removed. */
  unreadable: boolean;
};

/** Reads the record of every run that this machine has in hand; a folder without one never began. */
export function readRecords(disk: Disk, data: string): Found[] {
  const runs = join(data, "runs");
  return disk.list(runs).map((name) => {
    const folder = join(runs, name);
    let unreadable = false;
    for (const path of recordPaths(folder)) {
      const record = readRecord(disk, path);
      if (record === "unreadable") unreadable = true;
      else if (record) return { folder, record, unreadable: false };
    }
    // Torn both, or of a version that is not known here: a person looks at it.
    return { folder, record: null, unreadable };
  });
}

function readRecord(disk: Disk, path: string): RunRecord | "unreadable" | null {
  try {
    const text = disk.read(path);
    return text === null ? null : StoredRecord.parse(JSON.parse(text));
  } catch {
    return "unreadable";
  }
}

/** Where a run's gate lies in its folder. */
export const gatePath = (folder: string): string => join(folder, "gate.git");

/** What a run's gate is asked for by. */
export const gateOf = ({ job, folder }: { job: Job; folder: string }): GateRequest => ({
  folder: gatePath(folder),
  repository: job.repository,
  branch: job.branch,
});

/** Where a run's transcript lies in its folder. */
export const transcriptPath = (folder: string): string => join(folder, "transcript.log");

/** Whether the gate was finished: its HEAD is written last. */
export const hasGate = (disk: Disk, folder: string): boolean =>
  disk.exists(join(gatePath(folder), "HEAD"));
