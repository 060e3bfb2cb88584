import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import { write } from "./journal.ts";
import { memoryKills, processRefusals, type watchDisk, watchProcesses } from "./limits.ts";
import { capture, ended } from "./process.ts";
import { stop } from "./stop.ts";
import { places, type StopReason, type Task } from "./task.ts";
import { endAgent, loginShell } from "./user.ts";

/** Processes that were refused, before that is taken for why an agent failed. */
const refusalsMin = 3;

/** How often the limits are looked at, and the services. */
export const lookEveryMs = 250;

/** Runs the agent; true when it ended by itself and well: only then is there something to verify. */
export async function runAgent(
  task: Task,
  command: string[],
  deadline: number,
  disk: ReturnType<typeof watchDisk>,
): Promise<{ finished: boolean; stopReason: StopReason | null }> {
  const child = spawn(...loginShell('cd /workspace && exec "$@"', command), {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const output = capture(child, places.output, task.outputBytesMax);
  const killsBefore = memoryKills();
  const refusalsBefore = processRefusals();
  const crowded = watchProcesses();
  let stopReason: StopReason | null = null;
  const watch = setInterval(() => {
    disk.look();
    if (!stopReason && output.full()) stopReason = "output";
    if (!stopReason && disk.full()) stopReason = "disk";
    if (!stopReason && crowded()) stopReason = "pids";
    if (!stopReason && Date.now() > deadline) stopReason = "time";
    // Again while it lives: between its start and its change of user nobody would have found it.
    if (stopReason || stop.signal.aborted) void endAgent();
  }, lookEveryMs);
  const stopped = () => void endAgent();
  stop.signal.addEventListener("abort", stopped);
  if (stop.signal.aborted) stopped();
  const end = await ended(child, null);
  clearInterval(watch);
  stop.signal.removeEventListener("abort", stopped);
  if (end.error) appendFileSync(places.output, `${end.error}\n`);
  // What it left running must not touch the tree while it is committed and verified.
  await endAgent();
  await output.closed();
  if (!stopReason && end.exit !== 0 && memoryKills() > killsBefore) stopReason = "memory";
  // One refusal is a build that tried again; many are why it failed.
  if (!stopReason && end.exit !== 0 && processRefusals() - refusalsBefore >= refusalsMin)
    stopReason = "pids";
  write({ type: "agent", exit: end.exit, signal: end.signal, stopReason });
  return { finished: end.exit === 0 && !stopReason, stopReason };
}
