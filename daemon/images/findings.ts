import type { Line } from "../../images/base/task.ts";
import { baseImage } from "./base.ts";
import type { Finding } from "./finding.ts";
import type { About } from "./look.ts";
import type { Probed } from "./probe.ts";

export type CheckOptions = { cpus: number; memoryBytes: number; prebootSeconds: number };

export type Seen = {
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

export const nothingSeen: Seen = {
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

/** The findings about an image, by what was seen of it. Pure. */
export function judge(about: About, seen: Seen, options: CheckOptions): Finding[] {
  if (seen === nothingSeen) return [];
  const findings: Finding[] = [];
  const fail = (code: string, what: string, fix: string) =>
    findings.push({ level: "fail", code, what, fix });
  const warn = (code: string, what: string, fix: string) =>
    findings.push({ level: "warn", code, what, fix });
  if (seen.died !== null)
    fail(
      "start",
      `The container ended at once: ${seen.died.trim().slice(-500)}`,
      startFix(seen.died),
    );
  if (seen.late)
    fail("late", "It did not come to its end in time.", "Does preboot.sh wait for something?");
  if (seen.failed) fail(seen.failed.code, seen.failed.detail.slice(-1_500), fixFor(seen.failed));
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

type Say = (code: string, what: string, fix: string) => void;

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

function startFix(said: string): string {
  if (/exec format error/i.test(said))
    return "It is made for another kind of processor: build it here.";
  return `Start its Dockerfile with FROM ${baseImage} and leave /opt/trimo as it is.`;
}

function fixFor({ code, detail }: { code: string; detail: string }): string {
  if (/not executable/.test(detail)) return "RUN chmod 755 /opt/trimo/preboot.sh";
  if (/no network while services start/.test(detail))
    return "Fetch it in the Dockerfile, so that it lies in the image.";
  if (/did not end within/.test(detail))
    return "A service in the foreground keeps it: start it with `start-service NAME --port PORT -- COMMAND`.";
  if (/3128/.test(detail) && /in use/i.test(detail))
    return "Port 3128 is the gateway's: give the service another.";
  if (code === "image_broken")
    return `Start the Dockerfile with FROM ${baseImage}; install what is missing.`;
  return "Fix preboot.sh, build the image again, and check it again.";
}
