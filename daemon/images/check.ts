import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../app/protocol/clock.ts";
import { type Line, places, type Task } from "../../images/base/task.ts";
import { volumeName } from "../docker/container-spec.ts";
import type { Engine } from "../docker/engine.ts";
import { openGateway } from "../gateway/gateway.ts";
import { createGitHubProxy } from "../gateway/github-reads.ts";
import { Messages } from "../gateway/messages.ts";
import { openTunnel } from "../gateway/tunnel.ts";
import { makeGate } from "../repository/gate.ts";
import { gitIn } from "../repository/git.ts";
import type { Finding } from "./finding.ts";
import { type CheckOptions, judge, nothingSeen, type Seen } from "./findings.ts";
import { lookAt } from "./look.ts";
import { probe, readProbe } from "./probe.ts";

export type Checked = {
  image: string;
  ok: boolean;
  findings: Finding[];
  platform: string;
  sizeBytes: number;
  /** Largest first. */
  layers: { bytes: number; by: string }[];
  services: { name: string; readyMs: number }[];
  ports: number[];
  /** The agents that it has, of those Trimo knows. */
  agents: { name: string; version: string }[];
  /** From the request to create the container, in milliseconds; null: it did not come so far. */
  startedMs: number | null;
  /** What preboot took; beside the clone. */
  prebootMs: number | null;
  readyMs: number | null;
};

/** The whole of a check; an image that does not come to its end by then is ended. */
const slackMs = 60_000;

const branch = "trimo/check";

/**
 * Looks at an image and starts it once as a run would, without an agent; leaves nothing behind.
 *
 * @throws Error when the image is not on this machine; DockerError.
 */
export async function checkImage(
  engine: Engine,
  image: string,
  options: CheckOptions,
  signal: AbortSignal,
): Promise<Checked> {
  const about = await lookAt(engine, image);
  const seen = about.findings.some(({ level }) => level === "fail")
    ? nothingSeen
    : await runOnce(engine, image, options, signal);
  const findings = [...about.findings, ...judge(about, seen, options)].sort(
    (a, b) => Number(b.level === "fail") - Number(a.level === "fail"),
  );
  return {
    image,
    ok: findings.every(({ level }) => level !== "fail"),
    findings,
    platform: about.platform,
    sizeBytes: about.sizeBytes,
    layers: about.layers,
    services: seen.services.map(({ name, durationMs }) => ({ name, readyMs: durationMs })),
    ports: (seen.probed?.ports ?? []).filter((port) => port !== 3128),
    agents: seen.probed?.agents ?? [],
    startedMs: seen.startedMs,
    prebootMs: seen.prebootMs,
    readyMs: seen.readyMs,
  };
}

async function runOnce(
  engine: Engine,
  image: string,
  options: CheckOptions,
  signal: AbortSignal,
): Promise<Seen> {
  const folder = await mkdtemp(join(tmpdir(), "trimo-check-"));
  const run = randomBytes(8).toString("hex").slice(0, 12);
  let container: string | null = null;
  try {
    const { mirror, sha } = await makeRepository(folder);
    const gate = await makeGate({ folder: join(folder, "gate.git"), branch, url: "", mirror, sha });
    const request = {
      run,
      attempt: 1,
      daemon: `check-${run}`,
      image,
      cpus: options.cpus,
      memoryBytes: options.memoryBytes,
      pids: 1024,
    };
    const beganAt = systemClock.now();
    const started = await engine.startContainer(request);
    container = started.container;
    const startedMs = systemClock.now() - beganAt;
    const carrier = await openTunnel(engine, started.container).catch(() => null);
    const rules = { mode: "locked" as const, machine: [], repository: [], forge: "github.com" };
    const noToken = () => Promise.reject(new Error("a check has no credential"));
    const github = createGitHubProxy(
      "https://api.github.com",
      { repository: "trimo/check", branch, issue: null },
      noToken,
      () => false,
      systemClock,
    );
    const messages = new Messages(systemClock, 0, () => {});
    const endpoints = { gate, github, model: null, messages, sessionFiles: null };

    const on = { pushed: () => {}, connection: () => {} };
    const gateway = carrier && openGateway(carrier, endpoints, rules, on);
    started.hand(JSON.stringify(taskOf(sha, options)));
    try {
      const limitMs = options.prebootSeconds * 1_000 + slackMs;
      const late = await toItsEnd(engine, started.container, limitMs, signal);
      return { ...(await read(engine, started.container, beganAt, late)), startedMs };
    } finally {
      gateway?.close();
    }
  } finally {
    if (container) await engine.removeContainer(container);
    await engine.removeVolume(volumeName(run, 1));
    await rm(folder, { recursive: true, force: true });
  }
}

async function makeRepository(folder: string) {
  const mirror = join(folder, "mirror.git");
  const git = gitIn(folder, null);
  await git(["init", "--quiet", "--bare", mirror]);
  const inside = gitIn(mirror, null);
  const tree = (await inside(["hash-object", "-t", "tree", "-w", "/dev/null"])).trim();
  const who = ["-c", "user.name=Trimo", "-c", "user.email=trimo@localhost"];
  const sha = (await inside([...who, "commit-tree", tree, "-m", "Begin"])).trim();
  return { mirror, sha };
}

function taskOf(base: string, { prebootSeconds }: CheckOptions): Task {
  return {
    mode: "run",
    agentBegan: false,
    branch,
    base,
    env: {
      TRIMO_RUN: "check",
      TRIMO_PIPELINE: "check",
      TRIMO_BRANCH: branch,
      TRIMO_BASE: base,
      TRIMO_ISSUE: "",
      TRIMO_PROMPT_FILE: "/run/trimo/prompt",
    },
    prompt: "Look around.",
    command: ["bash", "-c", probe],
    fresh: null,
    session: { key: "", restore: false, paths: [] },
    files: [],
    verify: [],
    author: { name: "Trimo", email: "trimo@localhost" },
    leftoverMessage: "Keep what the check left",
    stoppedMessage: "Keep what the check left",
    timeMs: prebootSeconds * 1_000 + slackMs / 2,
    prebootMs: prebootSeconds * 1_000,
    awayMs: slackMs,
    cpus: 1,
    outputBytesMax: 4 * 2 ** 20,
    diskBytes: 20 * 2 ** 30,
    reserveBytes: 0,
  };
}

/** True when it had to be ended. */
async function toItsEnd(
  engine: Engine,
  container: string,
  limitMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const until = systemClock.now() + limitMs;
  let gone = false;
  void engine.waitForEnd(container).then(
    () => (gone = true),
    () => (gone = true),
  );
  while (!gone && systemClock.now() < until) {
    const journal = await engine.readFile(container, places.journal);
    if (/"type":"end"/.test(journal.toString("utf8"))) return false;
    if (signal.aborted) throw signal.reason;
    await systemClock.sleep(100, signal);
  }
  return !gone;
}

async function read(
  engine: Engine,
  container: string,
  beganAt: number,
  late: boolean,
): Promise<Seen> {
  const lines = (await engine.readFile(container, places.journal))
    .toString("utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);
  const of = <T extends Line["type"]>(type: T) =>
    lines.filter((line): line is Extract<Line, { type: T }> => line.type === type);
  const at = (stage: string) => of("stage").find((line) => line.stage === stage)?.at ?? null;
  const ended = of("end").length > 0;
  const output = (await engine.readFile(container, places.output)).toString("utf8");
  const booted = of("notice").find(({ text }) => text.startsWith("services are up"));
  const cloning = at("cloning");
  const agent = at("agent");
  return {
    failed: of("failed")[0] ?? null,
    died: ended || late ? null : await engine.logsOf(container),
    late,
    agentExit: of("agent")[0]?.exit ?? null,
    services: of("service").filter(({ state }) => state === "ready"),
    dead: of("service").filter(({ state }) => state === "died"),
    probed: readProbe(output),
    startedMs: null,
    prebootMs: booted && cloning ? booted.at - cloning : cloning && agent ? 0 : null,
    readyMs: agent ? agent - beganAt : null,
  };
}
