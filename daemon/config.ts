import { readFileSync } from "node:fs";
import { availableParallelism, homedir, totalmem } from "node:os";
import { join } from "node:path";
import { parseDocument } from "yaml";
import { z } from "zod";
import { AgentName } from "../app/protocol/names.ts";
import { HostPort, Limits, size } from "../app/protocol/trimo-yml.ts";
import { AgentSettings } from "./agent-settings.ts";

/** What this machine serves, may start, and gives: daemon.yml. Nothing from outside widens it. */
export const DaemonYml = z.strictObject({
  server: z.url({ protocol: /^https?$/ }).optional(),
  /** Where repositories are fetched from and pushed to. */
  github: z.url({ protocol: /^https?$/ }).default("https://github.com"),
  slots: z.number().int().min(1).max(1_000).default(2),
  repositories: z.array(z.string().min(1)).default(["*"]),
  images: z.array(z.string().min(1)).default(["trimo/*"]),
  limits: Limits.partial().default({}),
  egress: z
    .strictObject({
      mode: z.enum(["locked", "default", "open"]).default("default"),
      allow: z.array(HostPort).default([]),
    })
    .default({ mode: "default", allow: [] }),
  /** What building repositories' own images may take; false: none is built here. A build has the network. */
  builds: z
    .union([
      z.literal(false),
      z.strictObject({
        cpus: z.number().positive().max(512).optional(),
        memory: size.optional(),
        minutes: z.number().positive().max(1_440).optional(),
        /** Of the images that were built here, beyond the base; and how long an unused one stays. */
        disk: size.optional(),
        days: z.number().positive().max(3_650).optional(),
      }),
    ])
    .default(false),
  /** What agents remember of pipelines: kept so long unused, and so much of it in all. */
  sessions: z
    .strictObject({
      days: z.number().positive().max(3_650).default(14),
      disk: size.default("5g"),
    })
    .default({ days: 14, disk: "5g" }),
  /** How long each step of a container waits for this daemon to come back. */
  away_minutes: z.number().positive().max(1_440).default(30),
  push_minutes: z.number().positive().max(1_440).default(10),
  agents: z.record(AgentName, AgentSettings).default({}),
});

type Ceilings = {
  cpus: number;
  memory: string;
  pids: number;
  disk: string;
  minutes: number;
  preboot_seconds: number;
  /** Of one run; undefined: no ceiling. */
  tokens?: number | undefined;
  usd?: number | undefined;
};
export type Config = Omit<z.infer<typeof DaemonYml>, "server" | "limits"> & {
  server: string;
  limits: Ceilings;
  token: string;
  /** Mirrors, gates, outboxes and transcripts. */
  data: string;
};

/** The settings cannot be used; its message has a line for each mistake, with what to do. */
export class SettingsError extends Error {
  readonly problems: string[];
  constructor(problems: string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

export type Options = {
  config?: string;
  server?: string;
  tokenFile?: string;
  data?: string;
  slots?: string;
};

/**
 * Reads daemon.yml, the environment and the options, in rising order.
 *
 * @throws SettingsError with every mistake at once.
 */
export function readConfig(options: Options, env: NodeJS.ProcessEnv): Config {
  const problems: string[] = [];
  const yml = readYml(options.config, problems);
  const server = options.server ?? env.TRIMO_SERVER?.trim() ?? yml.server;
  const problem = problemOfServer(server);
  // Where the file cannot be used, it has its own line; what it names is not known.
  if (problem && (server || problems.length === 0)) problems.push(problem);
  if (isReadable(yml.github))
    problems.push(`github: is "${yml.github}": tokens would travel readable. ${secureWords}`);
  const token = readToken(options.tokenFile, env, problems);
  const slots = options.slots === undefined ? yml.slots : Number(options.slots);
  if (!Number.isInteger(slots) || slots < 1)
    problems.push(`--slots is "${options.slots}": it must be a whole number from 1.`);
  if (Object.keys(yml.agents).length === 0 && problems.length === 0)
    problems.push(
      "daemon.yml names no agent. For a first try:\n  agents:\n    hello: { adapter: script, command: [bash, -c, 'date > HELLO'] }",
    );
  if (problems.length > 0) throw new SettingsError(problems);
  return {
    ...yml,
    server: (server ?? "").replace(/\/$/, ""),
    github: yml.github.replace(/\/$/, ""),
    slots,
    token,
    data: dataFolder(options.data, env),
    limits: { ...ceilings(slots), ...withoutUndefined(yml.limits) },
  };
}

function problemOfServer(server: string | undefined): string | null {
  if (!server) return "No app is named: set `server:` in daemon.yml, TRIMO_SERVER or --server URL.";
  if (!URL.canParse(server) || !/^https?:$/.test(new URL(server).protocol))
    return `The app's URL is "${server}": it must start with http:// or https://.`;
  if (isReadable(server))
    return `The app's URL is "${server}": its token would travel readable. ${secureWords}`;
  return null;
}

const secureWords = "Use https://; http:// is for this very machine (127.0.0.1, [::1], localhost).";

/** Whether what is sent there can be read on the way. */
function isReadable(url: string): boolean {
  const { protocol, hostname } = new URL(url);
  const isLoopback = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
  return protocol === "http:" && !isLoopback;
}

/** The daemon's data folder, by `--data`, TRIMO_DATA or the usual place. */
export function dataFolder(named: string | undefined, env: NodeJS.ProcessEnv): string {
  return join(named ?? env.TRIMO_DATA?.trim() ?? join(homedir(), ".local/share/trimo"), "daemon");
}

/** What a container gets when daemon.yml does not say: this machine, shared among the slots. */
function ceilings(slots: number): Ceilings {
  const memoryMb = Math.max(512, Math.floor(totalmem() / 2 ** 20 / (slots + 1)));
  return {
    cpus: Math.max(1, Math.min(2, availableParallelism())),
    memory: `${Math.min(4096, memoryMb)}m`,
    pids: 1024,
    disk: "20g",
    minutes: 60,
    preboot_seconds: 300,
  };
}

function readYml(path: string | undefined, problems: string[]): z.infer<typeof DaemonYml> {
  const file = path ?? join(homedir(), ".config/trimo/daemon.yml");
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if (path) problems.push(`${file} cannot be read: ${(error as Error).message}`);
    return DaemonYml.parse({});
  }
  const document = parseDocument(text);
  for (const error of document.errors) problems.push(`${file}: ${error.message.split("\n")[0]}`);
  if (document.errors.length > 0) return DaemonYml.parse({});
  const parsed = DaemonYml.safeParse(document.toJS() ?? {});
  if (parsed.success) return parsed.data;
  for (const issue of parsed.error.issues) {
    const where = issue.path.join(".") || "the file";
    problems.push(`${file}: ${where}: ${issue.message}`);
  }
  return DaemonYml.parse({});
}

function readToken(file: string | undefined, env: NodeJS.ProcessEnv, problems: string[]): string {
  if (!file) {
    const token = env.TRIMO_TOKEN?.trim();
    if (token) return token;
    problems.push(
      "No token: run `trimo enroll NAME` on the app's machine, then set TRIMO_TOKEN or --token-file FILE.",
    );
    return "";
  }
  try {
    const token = readFileSync(file, "utf8").trim();
    if (!token) problems.push(`${file} is empty: it must hold the token of \`trimo enroll\`.`);
    return token;
  } catch (error) {
    problems.push(`${file} cannot be read: ${(error as Error).message}`);
    return "";
  }
}

function withoutUndefined<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as T;
}

/** The bytes of a size such as `512m` or `4g`. */
export function bytesOf(size: string): number {
  return Number(size.slice(0, -1)) * (size.endsWith("g") ? 2 ** 30 : 2 ** 20);
}
