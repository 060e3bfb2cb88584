import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from "node:fs";
import { lookEveryMs, runAgent } from "./agent-process.ts";
import { clone, cloned } from "./clone.ts";
import { Failed, write } from "./journal.ts";
import { commitAndPush, leftoverKbMax, leftoverKbMaxOnFullDisk } from "./leftovers.ts";
import { containerDisk, watchDisk } from "./limits.ts";
import { bootServices } from "./preboot.ts";
import { pause } from "./process.ts";
import { createServices, type Services } from "./services.ts";
import { promptFile, readied, takeSession } from "./session.ts";
import { takeSnapshots } from "./snapshots.ts";
import { stop } from "./stop.ts";
import { places, type Task } from "./task.ts";
import { agentId, endAgent } from "./user.ts";
import { verify } from "./verify.ts";

// A run inside its container, as root but for the agent:
//
//   task on stdin ─▶ clone ∥ preboot ─▶ agent ─▶ commit leftovers ─▶ verify ─▶ push ─▶ end, wait
//
// Every step is written to a journal that only root can write; the daemon follows it. SIGTERM stops
// the agent and goes on with committing: stopping is not throwing away. When the daemon is away the
// steps that need it wait for it.

/** After the end, until the container stops by itself if nobody removes it. */
const lingerMs = 30 * 60_000;

async function main() {
  const task = await readTask();
  mkdirSync("/var/lib/trimo", { recursive: true, mode: 0o755 });
  writeFileSync(places.output, "", { flag: "a" });
  const deadline = Date.now() + task.timeMs;
  const services = createServices(places.services, write);
  const nothing = task.mode === "rescue" && !hasWork(task);
  let pushed = nothing;
  try {
    if (task.mode === "run") pushed = await run(task, deadline, services);
    else if (!nothing) pushed = await commitAndPush(task, leftoverKbMax);
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    services.tellEnds();
    write({ type: "failed", code: error.code, detail: error.message });
  }
  services.close();
  write({ type: "end", stopped: stop.signal.aborted, pushed, nothing });
  await Promise.race([pause(lingerMs), new Promise((resolve) => process.on("SIGTERM", resolve))]);
  process.exit(0);
}

/**
 * Whether a volume has something to save: a whole checkout, or what an agent made of one. Without either it is
 * half a clone, or a new volume in place of one that was lost.
 */
function hasWork({ agentBegan }: Task): boolean {
  return existsSync(cloned) || (agentBegan && readdirSync(places.workspace).length > 0);
}

async function run(task: Task, deadline: number, services: Services): Promise<boolean> {
  const disk = watchDisk(
    { bytesMax: task.diskBytes, reserveBytes: task.reserveBytes },
    containerDisk(Date.now()),
    Date.now,
  );
  prepare(task);
  write({ type: "stage", stage: "cloning" });
  const preboot = bootServices(task, services);
  // Waited for below; until then a failure must not end the process.
  preboot.catch(() => {});
  await clone(task);
  write({ type: "stage", stage: "preboot" });
  await preboot;
  if (stop.signal.aborted) return false;
  write({ type: "stage", stage: "agent" });
  services.watch(lookEveryMs);
  const command = await readied(task);
  const snapshots = takeSnapshots(task);
  const { finished, stopReason } = await runAgent(task, command, deadline, disk);
  await snapshots.stop();
  write({ type: "stage", stage: "committing" });
  const pushed = await commitAndPush(
    task,
    stopReason === "disk" ? leftoverKbMaxOnFullDisk : leftoverKbMax,
  );
  // Git ran with the agent's own configuration, which may have started something.
  await endAgent();
  await takeSession(task);
  if (!finished) services.tellEnds();
  if (stop.signal.aborted || !finished) return pushed;
  if (task.verify.length > 0) write({ type: "stage", stage: "verifying" });
  for (const [index, command] of task.verify.entries()) {
    if (stop.signal.aborted) break;
    if (!(await verify(index, command, deadline, disk))) services.tellEnds();
  }
  return pushed;
}

async function readTask(): Promise<Task> {
  let text = "";
  for await (const chunk of process.stdin) text += chunk;
  // A daemon that died before it had said all leaves half a line: then there is nothing to do.
  return JSON.parse(text);
}

/** What every step below starts; an image that lacks one is told of it by name. */
const needed = ["/bin/bash", "/usr/bin/git", "/usr/bin/setpriv", "/usr/bin/find", "/usr/bin/du"];

function prepare(task: Task) {
  const missing = needed.filter((path) => !existsSync(path));
  if (missing.length > 0)
    throw new Failed("image_broken", `The image has no ${missing.join(", no ")}.`);
  const users = readFileSync("/etc/passwd", "utf8");
  if (!new RegExp(`^agent:[^:]*:${agentId}:${agentId}:`, "m").test(users))
    throw new Failed("image_broken", `The image has no user agent with uid and gid ${agentId}.`);
  chownSync(places.workspace, agentId, agentId);
  mkdirSync("/run/trimo", { recursive: true });
  writeFileSync(promptFile, task.prompt, { mode: 0o644 });
  // For a driver that finds only then that the agent does not know its session any more.
  if (task.fresh) writeFileSync(`${promptFile}-fresh`, task.fresh.prompt, { mode: 0o644 });
  const quoted = (value: string) => `'${value.replaceAll("'", `'\\''`)}'`;
  const lines = Object.entries(task.env).map(([name, value]) => `export ${name}=${quoted(value)}`);
  writeFileSync("/etc/profile.d/trimo-run.sh", `${lines.join("\n")}\n`, { mode: 0o644 });
}

await main();
