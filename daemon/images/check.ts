import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../app/protocol/clock.ts";
import { type Line, places, type Task } from "../../images/base/task.ts";
import {
  type Container,
  type Docker,
  logsOf,
  readFileOf,
  removeContainer,
  removeVolume,
  startContainer,
  waitForEnd,
} from "../docker/container.ts";
import { containerSpec, volumeName } from "../docker/container-spec.ts";
import { openGateway } from "../gateway/gateway.ts";
import { createHub } from "../gateway/github-reads.ts";
import { createTells } from "../gateway/messages.ts";
import { makeGate } from "../repository/gate.ts";
import { gitIn } from "../repository/git.ts";
import { openTunnel } from "../run/follow.ts";
import { baseImage, contractLabel, contractVersion, sourceLabel } from "./base.ts";
import { type Probed, probe, readProbe } from "./probe.ts";

// `trimo image check`: starts the image as a run would, with a small repository, its preboot and an
// agent that only looks around; what it saw becomes findings, each with its mend.

/** `fail`: a run would fail. `warn`: it would surprise. */
export type Finding = { level: "fail" | "warn"; code: string; what: string; mend: string };

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

export type CheckOptions = { cpus: number; memoryBytes: number; prebootSeconds: number };

/** The whole of a check; an image that does not come to its end by then is ended. */
const slackMs = 60_000;
const layersMax = 8;
const branch = "trimo/check";

/** The image is not on this machine: a sentence with what to do. */
export class NoImage extends Error {}

export async function checkImage(
  docker: Docker,
  image: string,
  options: CheckOptions,
  signal: AbortSignal,
): Promise<Checked> {
  const about = await lookAt(docker, image);
  const seen = about.findings.some(({ level }) => level === "fail")
    ? nothingSeen
    : await runOnce(docker, image, options, signal);
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

type About = Awaited<ReturnType<typeof lookAt>>;

/** What can be said without starting it. */
async function lookAt(docker: Docker, image: string) {
  const found = await docker
    .getImage(image)
    .inspect()
    .catch((error: { statusCode?: number }) => {
      if (error.statusCode !== 404) throw error;
      throw new NoImage(
        `${image} is not on this machine.\n  Build it (trimo image build DIR --tag ${image}) or pull it, then check it again.`,
      );
    });
  const base = await docker
    .getImage(baseImage)
    .inspect()
    .catch(() => null);
  const engine = await docker.version();
  const platform = `${found.Os}/${found.Architecture}`;
  const findings: Finding[] = [];
  if (found.Os !== engine.Os || found.Architecture !== engine.Arch)
    findings.push({
      level: "fail",
      code: "platform",
      what: `It is made for ${platform}; this engine runs ${engine.Os}/${engine.Arch}.`,
      mend: `Build it here, or with --platform ${engine.Os}/${engine.Arch}.`,
    });
  if (found.Config.Labels?.[contractLabel] !== contractVersion)
    findings.push({
      level: "fail",
      code: "contract",
      what: `It carries no label ${contractLabel}=${contractVersion}, so it is not made on Trimo's base.`,
      mend: `Start its Dockerfile with FROM ${baseImage}; build the base with \`trimo image build\`.`,
    });
  else if (found.Config.Labels?.[sourceLabel] !== base?.Config.Labels?.[sourceLabel])
    findings.push({
      level: "warn",
      code: "old_base",
      what: `It stands on another ${baseImage} than this machine has now.`,
      mend: "Build it again: it gets what the base has learned since.",
    });
  const history = await docker.getImage(image).history();
  const layers = (history as { Size: number; CreatedBy: string }[])
    .filter(({ Size }) => Size > 0)
    .sort((a, b) => b.Size - a.Size)
    .slice(0, layersMax)
    .map(({ Size, CreatedBy }) => ({
      bytes: Size,
      by: CreatedBy.replace(/^\/bin\/sh -c (#\(nop\) *)?/, "")
        .replace(/\s+/g, " ")
        .slice(0, 100),
    }));
  const names = (env: string[] | undefined) => (env ?? []).map((row) => row.split("=")[0] ?? "");
  const known = new Set(names(base?.Config.Env));
  return {
    findings,
    platform,
    layers,
    sizeBytes: found.Size,
    /** Set by ENV in this image, not by the base. */
    env: names(found.Config.Env).filter((name) => !known.has(name) && name !== "PATH"),
    exposed: Object.keys(found.Config.ExposedPorts ?? {}).map((port) => Number.parseInt(port, 10)),
  };
}

type Seen = {
  failed: Extract<Line, { type: "failed" }> | null;
  /** The first process ended, and what it said last. */
  died: string | null;
  late: boolean;
  agentExit: number | null;
  services: Extract<Line, { type: "service" }>[];
  dead: Extract<Line, { type: "service" }>[];
  probed: Probed | null;
  startedMs: number | null;
  prebootMs: number | null;
  readyMs: number | null;
};

const nothingSeen: Seen = {
  failed: null,
  died: null,
  late: false,
  agentExit: 0,
  services: [],
  dead: [],
  probed: null,
  startedMs: null,
  prebootMs: null,
  readyMs: null,
};

async function runOnce(
  docker: Docker,
  image: string,
  options: CheckOptions,
  signal: AbortSignal,
): Promise<Seen> {
  const folder = await mkdtemp(join(tmpdir(), "trimo-check-"));
  const run = randomBytes(8).toString("hex").slice(0, 12);
  let container: Container | null = null;
  try {
    const { mirror, sha } = await makeRepository(folder);
    const gate = await makeGate(join(folder, "gate.git"), mirror, branch, sha);
    const spec = containerSpec({
      run,
      attempt: 1,
      daemon: `check-${run}`,
      image,
      cpus: options.cpus,
      memoryBytes: options.memoryBytes,
      pids: 1024,
    });
    const beganAt = Date.now();
    const started = await startContainer(docker, spec);
    container = started.container;
    const startedMs = Date.now() - beganAt;
    const carrier = await openTunnel(container).catch(() => null);
    const rules = { mode: "locked" as const, machine: [], repository: [], forge: "github.com" };
    const noToken = () => Promise.reject(new Error("a check has no credential"));
    const hub = createHub(
      "https://api.github.com",
      { repository: "trimo/check", branch, issue: null },
      noToken,
      () => false,
      systemClock,
    );
    const doors = { gate, hub, model: null, tells: createTells(0, () => {}), memory: null };
    const on = { pushed: () => {}, attempt: () => {} };
    const gateway = carrier && openGateway(carrier, doors, rules, on);
    started.hand(JSON.stringify(taskOf(sha, options)));
    try {
      const limitMs = options.prebootSeconds * 1_000 + slackMs;
      const late = await toItsEnd(container, limitMs, signal);
      return { ...(await read(container, beganAt, late)), startedMs };
    } finally {
      gateway?.close();
    }
  } finally {
    if (container) await removeContainer(container);
    await removeVolume(docker, volumeName(run, 1));
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
    memory: { key: "", restore: false, paths: [] },
    files: [],
    verify: [],
    author: { name: "Trimo", email: "trimo@localhost" },
    leftoverMessage: "Keep what the check left",
    stoppedMessage: "Keep what the check left",
    timeMs: prebootSeconds * 1_000 + slackMs / 2,
    prebootMs: prebootSeconds * 1_000,
    outputBytesMax: 4 * 2 ** 20,
    diskBytes: 20 * 2 ** 30,
    reserveBytes: 0,
  };
}

/** True when it had to be ended. */
async function toItsEnd(
  container: Container,
  limitMs: number,
  signal: AbortSignal,
): Promise<boolean> {
  const until = Date.now() + limitMs;
  let gone = false;
  void waitForEnd(container).then(
    () => (gone = true),
    () => (gone = true),
  );
  while (!gone && Date.now() < until) {
    const journal = await readFileOf(container, places.journal);
    if (/"type":"end"/.test(journal.toString("utf8"))) return false;
    if (signal.aborted) throw signal.reason;
    await systemClock.sleep(100, signal);
  }
  return !gone;
}

async function read(container: Container, beganAt: number, late: boolean): Promise<Seen> {
  const lines = (await readFileOf(container, places.journal))
    .toString("utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);
  const of = <T extends Line["type"]>(type: T) =>
    lines.filter((line): line is Extract<Line, { type: T }> => line.type === type);
  const at = (stage: string) => of("stage").find((line) => line.stage === stage)?.at ?? null;
  const ended = of("end").length > 0;
  const output = (await readFileOf(container, places.output)).toString("utf8");
  const booted = of("notice").find(({ text }) => text.startsWith("services are up"));
  const cloning = at("cloning");
  const agent = at("agent");
  return {
    failed: of("failed")[0] ?? null,
    died: ended || late ? null : await logsOf(container),
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

function judge(about: About, seen: Seen, options: CheckOptions): Finding[] {
  if (seen === nothingSeen) return [];
  const findings: Finding[] = [];
  const fail = (code: string, what: string, mend: string) =>
    findings.push({ level: "fail", code, what, mend });
  const warn = (code: string, what: string, mend: string) =>
    findings.push({ level: "warn", code, what, mend });
  if (seen.died !== null)
    fail(
      "start",
      `The container ended at once: ${seen.died.trim().slice(-500)}`,
      startMend(seen.died),
    );
  if (seen.late)
    fail("late", "It did not come to its end in time.", "Does preboot.sh wait for something?");
  if (seen.failed) fail(seen.failed.code, seen.failed.detail.slice(-1_500), mendOf(seen.failed));
  for (const { name, tail } of seen.dead)
    fail(
      "service_died",
      `The service ${name} ended after preboot had returned.\n${tail.slice(-800)}`.trim(),
      "Keep it in the foreground of its start-service line, and look at its log above.",
    );
  const { probed } = seen;
  if (!probed) {
    if (findings.length === 0)
      fail(
        "agent",
        `The agent's shell ended with exit ${seen.agentExit}.`,
        "Is bash a real bash, and /etc/profile.d in order?",
      );
    return findings;
  }
  judgeProbe(probed, about, fail, warn);
  const slow = options.prebootSeconds * 1_000 * 0.5;
  if ((seen.prebootMs ?? 0) > slow)
    warn(
      "slow",
      `Preboot took ${((seen.prebootMs ?? 0) / 1000).toFixed(0)} s, more than half of what it may.`,
      "Do in the Dockerfile what need not be done at each start.",
    );
  return findings;
}

type Say = (code: string, what: string, mend: string) => void;

function judgeProbe(probed: Probed, about: About, fail: Say, warn: Say) {
  if (probed.uid !== 1000)
    fail(
      "user",
      `The agent runs as uid ${probed.uid}.`,
      "Leave the user agent as the base has it: uid and gid 1000.",
    );
  if (probed.capabilities !== 0n)
    fail(
      "capabilities",
      "The agent has capabilities.",
      "Remove what sets them; the base gives none.",
    );
  if (!probed.homeWritable)
    fail(
      "home",
      `The agent cannot write to its HOME, ${probed.home}.`,
      "In the Dockerfile, last: RUN chown -R agent:agent /home/agent",
    );
  if (!probed.workspaceWritable)
    fail(
      "workspace",
      "The agent cannot write to /workspace.",
      "Do not change /workspace in the image: it is a volume.",
    );
  if (!probed.tmpWritable) fail("tmp", "The agent cannot write to /tmp.", "RUN chmod 1777 /tmp");
  for (const path of probed.rootWritable)
    fail(
      "writable",
      `The agent can write to ${path}, which root trusts.`,
      `RUN chown -R root:root ${path} && chmod -R go-w ${path}`,
    );
  const silent = about.exposed.filter((port) => !probed.ports.includes(port) && port !== 3128);
  for (const port of silent)
    fail(
      "service_down",
      `Nothing answers on port ${port}, which the image EXPOSEs, after preboot has returned.`,
      `Start it in preboot.sh: start-service NAME --port ${port} -- COMMAND`,
    );
  const lost = about.env.filter((name) => !probed.env.includes(name));
  if (lost.length > 0)
    warn(
      "env",
      `ENV sets ${lost.join(", ")}, which the agent does not see: the switch of the user clears it.`,
      `Say it in /etc/profile.d as well: RUN echo 'export ${lost[0]}=…' > /etc/profile.d/image.sh`,
    );
  if (!probed.git.startsWith("/opt/trimo/bin"))
    fail(
      "git",
      `The agent's git is ${probed.git || "missing"}, not Trimo's: its commits would be pushed late.`,
      "Keep /opt/trimo/bin first in the PATH that /etc/profile.d sets.",
    );
  judgeAgents(probed, warn);
  if (probed.setuid.length > 0)
    warn(
      "setuid",
      `${probed.setuid.join(", ")} ${probed.setuid.length === 1 ? "is" : "are"} setuid and will not work: the agent cannot gain rights.`,
      "Do what needs root in the Dockerfile or in preboot.sh.",
    );
  if (probed.dockerSocket)
    warn(
      "docker",
      "There is a Docker socket in the image.",
      "A run has none; services belong into preboot.sh.",
    );
}

function judgeAgents({ agents }: Probed, warn: Say) {
  for (const { name } of agents.filter(({ version }) => !version))
    warn(
      "agent_version",
      `The agent ${name} is there and does not tell its version.`,
      `Does \`${name} --version\` run in it? Install it again: RUN /opt/trimo/sbin/install-agent ${name}`,
    );
}

function startMend(said: string): string {
  if (/exec format error/i.test(said))
    return "It is made for another kind of processor: build it here.";
  return `Start its Dockerfile with FROM ${baseImage} and leave /opt/trimo as it is.`;
}

function mendOf({ code, detail }: { code: string; detail: string }): string {
  if (/not executable/.test(detail)) return "RUN chmod 755 /opt/trimo/preboot.sh";
  if (/no network while services start/.test(detail))
    return "Fetch it in the Dockerfile, so that it lies in the image.";
  if (/did not end within/.test(detail))
    return "A service in the foreground keeps it: start it with `start-service NAME --port PORT -- COMMAND`.";
  if (/3128/.test(detail) && /in use/i.test(detail))
    return "Port 3128 is the gateway's: give the service another.";
  if (code === "image_broken")
    return `Start the Dockerfile with FROM ${baseImage}; install what is missing.`;
  return "Mend preboot.sh, build the image again, and check it again.";
}
