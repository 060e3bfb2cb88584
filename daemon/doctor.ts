import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { systemClock } from "../app/protocol/clock.ts";
import type { Event } from "../app/protocol/event.ts";
import type { Job } from "../app/protocol/job.ts";
import type { Settle } from "../app/protocol/settle.ts";
import type { Config } from "./config.ts";
import { fileDisk } from "./disk.ts";
import type { Engine } from "./docker/engine.ts";
import { openPool } from "./gateway/model/model.ts";
import { Builds } from "./images/builds.ts";
import { copyCgi } from "./repository/gate.ts";
import { gitEnvironment, gitIn } from "./repository/git.ts";
import { GitRepositories } from "./repository/git-repositories.ts";
import { removeContainerAndVolume } from "./run/clean-up.ts";
import { runJob } from "./run/job.ts";
import type { Server } from "./server/client.ts";

// `trimo doctor --agent NAME`: one tiny run, the whole way but for the app and GitHub, which are a
// repository in a folder that is removed at the end.

const repository = "trimo/doctor";
const branch = "trimo/1-doctor";
const leaseMs = 120_000;

export type Proof = {
  ok: boolean;
  /** Commits that came out of the container, the newest last. */
  commits: { sha: string; subject: string }[];
  end: Settle | null;
  /** What the agent printed, whole. */
  transcript: string;
};

/**
 * Runs `agent` once with `prompt` against a repository of its own; `tell` hears each event as it comes.
 * Leaves nothing behind.
 */
export async function proveAgent(
  engine: Engine,
  config: Config,
  agent: string,
  prompt: string,
  tell: (event: Event) => void,
  signal: AbortSignal,
): Promise<Proof> {
  const folder = await mkdtemp(join(tmpdir(), "trimo-doctor-"));
  const forge = await startForge(join(folder, "forge"));
  const own = { ...config, github: forge.url, data: join(folder, "data"), repositories: ["*"] };
  const log = pino({ level: "silent" });
  const seen: Event[] = [];
  let end: Settle | null = null;
  const server = appOf(
    (event) => {
      seen.push(event);
      tell(event);
    },
    (settled) => {
      end = settled;
    },
  );
  const cancel = new AbortController();
  signal.addEventListener("abort", () => cancel.abort(), { once: true });
  const job = jobFor(agent, prompt, forge.sha);
  const controls = {
    cancel,
    leave: new AbortController().signal,
    renewals: new Set<() => void>(),
    onContainerGone: () => {},
  };
  try {
    await mkdir(own.data, { recursive: true, mode: 0o700 });
    const parts = {
      config: own,
      engine,
      disk: fileDisk,
      pool: openPool(),
      repositories: new GitRepositories(own.data, own.github),
      server,
      clock: systemClock,
      log,
      identity: `doctor-${process.pid}`,
    };
    const builds = new Builds(parts);
    await runJob({ ...parts, builds }, job, controls, null, "run");
    const settled = end as Settle | null;
    const commits = seen.flatMap((event) => (event.type === "commit" ? [event] : []));
    const transcript = await readTranscript(own.data, job);
    return { ok: settled?.outcome === "succeeded", commits, end: settled, transcript };
  } finally {
    // Nothing more can be done here; the next start of a daemon sweeps it.
    await removeContainerAndVolume(engine, job, null).catch(() => {});
    forge.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function readTranscript(data: string, { run, attempt }: Job): Promise<string> {
  const path = join(data, "transcripts", `${run}-${attempt}.log`);
  return await readFile(path, "utf8").catch(() => "");
}

function jobFor(agent: string, prompt: string, sha: string): Job {
  return {
    run: `doctor${randomBytes(3).toString("hex")}`,
    attempt: 1,
    leaseMs,
    number: 1,
    pipeline: "doctor000000",
    repository,
    issue: 1,
    title: "A tiny run",
    branch,
    base: { branch: "main", sha },
    agent,
    image: null,
    prompt,
    handoff: "",
    fresh: false,
  };
}

/** The daemons' API, in this process. */
function appOf(take: (event: Event) => void, settled: (end: Settle) => void): Server {
  const never = () => Promise.reject(new Error("a tiny run does not ask for this"));
  let known = 0;
  return {
    hello: never,
    claim: never,
    stream: never,
    renew: async () => ({ leaseMs, cancel: false, messages: [] }),
    events: async (_run, { events }) => {
      for (const event of events.filter(({ seq }) => seq > known)) take(event);
      known = Math.max(known, ...events.map(({ seq }) => seq));
      return { acknowledged: known };
    },
    token: async () => ({ token: "none", expiresAt: systemClock.now() + 3_600_000 }),
    settle: async (_run, end) => {
      settled(end);
      return { settled: true };
    },
  };
}

/** A repository with one commit, over HTTP as GitHub has it. */
async function startForge(folder: string) {
  const path = join(folder, `${repository}.git`);
  await mkdir(path, { recursive: true });
  const git = gitIn(path, null);
  await git(["init", "--quiet", "--bare", "--initial-branch=main", path]);
  await git(["config", "http.receivepack", "true"]);
  const readme = join(folder, "README.md");
  await writeFile(readme, "# A place to try an agent\n");
  const blob = (await git(["hash-object", "-w", readme])).trim();
  const who = ["-c", "user.name=Trimo", "-c", "user.email=trimo@localhost"];
  await git(["update-index", "--add", "--cacheinfo", `100644,${blob},README.md`]);
  const tree = (await git(["write-tree"])).trim();
  const sha = (await git([...who, "commit-tree", tree, "-m", "Begin"])).trim();
  await git(["update-ref", "refs/heads/main", sha]);
  const server = createServer((request, response) => serveForge(folder, request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    sha,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

function serveForge(folder: string, request: IncomingMessage, response: ServerResponse) {
  const { pathname, search } = new URL(request.url ?? "/", "http://forge");
  const child = spawn("git", ["http-backend"], {
    stdio: ["pipe", "pipe", "ignore"],
    env: {
      ...gitEnvironment(null),
      GIT_PROJECT_ROOT: folder,
      GIT_HTTP_EXPORT_ALL: "1",
      PATH_INFO: pathname,
      REQUEST_METHOD: request.method,
      QUERY_STRING: search.slice(1),
      CONTENT_TYPE: request.headers["content-type"] ?? "",
      HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "",
      HTTP_GIT_PROTOCOL: String(request.headers["git-protocol"] ?? ""),
      REMOTE_USER: "trimo",
      REMOTE_ADDR: "127.0.0.1",
    },
  });
  child.on("error", () => response.destroy());
  // A pipe whose reader has ended: its exit tells why.
  child.stdin.on("error", () => {});
  request.pipe(child.stdin);
  copyCgi(child.stdout, response);
}
