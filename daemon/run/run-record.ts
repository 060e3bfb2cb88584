import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { FailureCode } from "../../app/protocol/failure.ts";
import { Job, Settle } from "../../app/protocol/wire.ts";
import { nothingSpent } from "../agents/adapter.ts";
import { AgentSettings } from "../agents/settings.ts";

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
    memoryKey: z.string(),
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
  allow: z.array(z.string()),
  /** The branch's commit when the run began; null: the run makes the branch. */
  branchSha: z.string().nullable(),
  /** What the container was given to start from. */
  startSha: z.string(),
  /** What the agent is told besides its prompt: how the base has moved on. */
  finding: z.string().default(""),
});
export type Plan = z.infer<typeof Plan>;

/** All that a restarted daemon needs to go on with a run. */
const Known = z.object({
  job: Job,
  plan: Plan.nullable(),
  containerId: z.string().nullable(),
  /** Its container ended before its work did: what is on the volume is to be rescued first. */
  died: z.object({ outOfMemory: z.boolean(), tail: z.string(), rescues: z.number() }).nullable(),
  /** Why the daemon ended the agent itself, by what the model's service said or it has used up. */
  cut: z
    .object({ code: FailureCode, text: z.string(), resetAt: z.number().nullable() })
    .nullable()
    .default(null),
  /** GitHub has not taken its commits: the gate is kept. */
  keep: z.boolean(),
  /** How it ended, once that is known: what is left is cleaning up and saying so. */
  end: Settle.nullable(),
});
export type Record = z.infer<typeof Known>;
/** Also one that a Trimo of protocol 3 left: its run goes on. */
const Record = z.preprocess(upgraded, Known);

function upgraded(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  const { job, plan, end, ...rest } = value as { [key: string]: unknown };
  const before = (one: unknown, missing: object) =>
    typeof one === "object" && one !== null ? { ...missing, ...one } : one;
  const command = (plan as { command?: unknown } | null)?.command;
  return {
    ...rest,
    job: before(job, { handover: "", fresh: false }),
    end: before(end ?? null, { quota: null }),
    plan: before(plan ?? null, {
      settings: { adapter: "script", command },
      launch: {
        resume: null,
        newSession: "",
        stale: false,
        memoryKey: "",
        spentBefore: nothingSpent,
      },
      tokens: null,
      usd: null,
    }),
  };
}

export const runFolder = (data: string, run: string, attempt: number): string =>
  join(data, "runs", `${run}-${attempt}`);

/** Whole or not at all: a kill in the middle leaves the one before. */
export function writeRecord(folder: string, record: Record) {
  const path = join(folder, "record.json");
  writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

type Found = {
  folder: string;
  /** Null: there is none, or it cannot be read. */
  record: Record | null;
  /** There is one that cannot be read: its run's work must not be removed. */
  unreadable: boolean;
};

/** Every run this machine has in hand, with its folder; folders without a record never began. */
export function readRecords(data: string): Found[] {
  const runs = join(data, "runs");
  let names: string[] = [];
  try {
    names = readdirSync(runs);
  } catch {
    // The first start: there is no folder yet.
    return [];
  }
  return names.map((name) => {
    const folder = join(runs, name);
    try {
      const text = readFileSync(join(folder, "record.json"), "utf8");
      return { folder, record: Record.parse(JSON.parse(text)), unreadable: false };
    } catch (error) {
      const missing = (error as { code?: string }).code === "ENOENT";
      return { folder, record: null, unreadable: !missing };
    }
  });
}
