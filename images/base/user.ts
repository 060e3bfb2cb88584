import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { pause, tailBytes } from "./process.ts";

// The agent's user, which has no right that it was not given: its shells and its processes.

export const agentId = 1000;

/** Between SIGTERM and SIGKILL for the agent. */
const graceMs = 1_500;

/** One step of git as the agent's user; a trap in its .git must not hold the run. */
const gitMsMax = 10 * 60_000;

export const home = "/home/agent";

/** As the agent's user: no capability, no way to gain one. */
export const asUser = [
  "/usr/bin/setpriv",
  "--reuid=agent",
  "--regid=agent",
  "--init-groups",
  "--reset-env",
  "--no-new-privs",
  "--inh-caps=-all",
  "--ambient-caps=-all",
  "--bounding-set=-all",
];

/** A login shell of the agent's user, first in line when memory runs out. */
export function loginShell(script: string, args: string[]): [string, string[]] {
  return shell(["-l"], script, args);
}

/** A shell of the agent's user that reads nothing of its home. */
export function agentShell(script: string, args: string[]): [string, string[]] {
  return shell(["--noprofile", "--norc"], script, args);
}

function shell(options: string[], script: string, args: string[]): [string, string[]] {
  const [command = "", ...flags] = asUser;
  const first = `echo 800 > /proc/self/oom_score_adj 2>/dev/null; ${script}`;
  return [command, [...flags, "/bin/bash", ...options, "-c", first, "trimo", ...args]];
}

/** Runs a command as the agent's user, without any right of root's. */
export function asAgent(command: string[], input = ""): Promise<{ exit: number; output: string }> {
  const [file = "", ...flags] = asUser;
  return new Promise((resolve) => {
    const child = execFile(
      file,
      [...flags, ...command],
      { cwd: "/", maxBuffer: 1024 * 1024, timeout: gitMsMax, killSignal: "SIGKILL" },
      (error, stdout, stderr) => {
        const exit = error ? (typeof error.code === "number" ? error.code : 1) : 0;
        resolve({ exit, output: `${stdout}${stderr}`.trim().slice(-tailBytes) });
      },
    );
    // A pipe whose reader has ended: its exit tells why.
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}

let ending: Promise<void> | null = null;

/**
 * Ends every process of the agent's user: asked to, then made to. One call at a time, so that none is still
 * at it when the next step starts a process of that user.
 */
export function endAgent(): Promise<void> {
  ending ??= endProcesses().finally(() => {
    ending = null;
  });
  return ending;
}

async function endProcesses() {
  signalAll("SIGTERM");
  const until = Date.now() + graceMs;
  while (agentProcesses().length > 0 && Date.now() < until) await pause(20);
  // A fork bomb makes new ones while the old are killed: again until none is left.
  for (let i = 0; i < 200 && agentProcesses().length > 0; i++) {
    signalAll("SIGKILL");
    await pause(5);
  }
}

function signalAll(signal: NodeJS.Signals) {
  for (const pid of agentProcesses()) {
    try {
      process.kill(pid, signal);
    } catch {
      // It ended by itself meanwhile.
    }
  }
}

function agentProcesses(): number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const status = readFileSync(`/proc/${name}/status`, "utf8");
      const zombie = /^State:\s+Z/m.test(status);
      return !zombie && new RegExp(`^Uid:\\s+${agentId}\\s`, "m").test(status)
        ? [Number(name)]
        : [];
    } catch {
      return [];
    }
  });
}
