import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { write } from "./journal.ts";
import { leftoverKbMax } from "./leftovers.ts";
import { pause } from "./process.ts";
import { places, type Task } from "./task.ts";
import { agentId, asAgent, endAgent } from "./user.ts";

// Uncommitted work survives the loss of the container and its volume: while the agent is at work, all that is
// not committed is pushed to the gate as a commit of its own, by a repository apart from the agent's.

/** From one snapshot to the next at least, in milliseconds, and at most while they fail. */
const everyMsMin = 15_000;
const everyMsMax = 10 * 60_000;
/** And so many times the CPU's time that one took: a hundredth of what the run may use. */
const costParts = 100;
/** So many that fail in a row are told of. */
const failuresMax = 4;

/**
 * How long to wait for the next snapshot, in milliseconds, after one that took `cpuMs` of the CPU of a run that
 * may use `cpus` of them, and after `failures` in a row.
 */
export function pauseAfter(cpuMs: number, cpus: number, failures: number): number {
  const patience = Math.min(everyMsMax, everyMsMin * 2 ** failures);
  return Math.max(patience, (cpuMs * costParts) / cpus);
}

/** The CPU's time in what bash's `times` prints at the end of `output`, in milliseconds. */
export function cpuMsOf(output: string): number {
  const told = output.match(/\d+m[\d.]+s/g)?.slice(-4) ?? [];
  return told.reduce((sum, text) => {
    const [minutes = "0", seconds = "0"] = text.slice(0, -1).split("m");
    return sum + (Number(minutes) * 60 + Number(seconds)) * 1_000;
  }, 0);
}

/** Takes snapshots beside the agent until `stop`, which ends every process of the agent's user. */
export function takeSnapshots({ branch, author, cpus }: Task) {
  const ending = new AbortController();
  const folder = join(places.snapshots, "git");
  const { remote, snapshotRemote } = places;
  const limit = String(leftoverKbMax);
  const args = [folder, remote, snapshotRemote, branch, author.name, author.email, limit];
  const command = ["/usr/bin/nice", "-n", "19", "/bin/bash", "/opt/trimo/snapshot.sh", ...args];
  mkdirSync(folder, { recursive: true });
  chownSync(folder, agentId, agentId);
  /** Between two snapshots nothing of the agent's finds its way in. */
  const inside = async (work: string[]) => {
    chmodSync(places.snapshots, 0o711);
    const result = await asAgent(work);
    chmodSync(places.snapshots, 0o700);
    return result;
  };
  const loop = async () => {
    // As the clone left it: then no file needs to be read again.
    await inside(["/bin/cp", join(places.workspace, ".git/index"), join(folder, "index.trimo")]);
    for (let failures = 0, cpuMs = 0; ; ) {
      await Promise.race([pause(pauseAfter(cpuMs, cpus, failures)), aborted(ending.signal)]);
      if (ending.signal.aborted) return;
      const { exit, output } = await inside(command);
      if (ending.signal.aborted) return;
      cpuMs = cpuMsOf(output);
      failures = exit === 0 ? 0 : failures + 1;
      if (failures === failuresMax)
        write({ type: "notice", text: `no snapshots at the moment: ${reasonIn(output)}` });
    }
  };
  const over = loop().catch((error) => write({ type: "notice", text: `no snapshots: ${error}` }));
  return {
    async stop() {
      ending.abort();
      let running = true;
      void over.then(() => {
        running = false;
      });
      while (running) {
        await Promise.race([over, pause(50)]);
        if (running) await endAgent();
      }
    },
  };
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

const reasonIn = (output: string): string =>
  output
    .split("\n")
    .filter((line) => line && !/^\d+m/.test(line))
    .at(-1)
    ?.slice(0, 300) ?? "";
