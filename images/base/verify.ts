import { spawn } from "node:child_process";
import { appendFileSync } from "node:fs";
import { lookEveryMs } from "./agent-process.ts";
import { write } from "./journal.ts";
import type { watchDisk } from "./limits.ts";
import { capture, ended } from "./process.ts";
import { stop } from "./stop.ts";
import { places } from "./task.ts";
import { agentShell, endAgent } from "./user.ts";

/** Of one verify command's output. */
const logBytesMax = 64 * 2 ** 20;

/** Runs the verify commands; true when they passed, or were ended because the run was. */
export async function verify(
  index: number,
  command: string,
  deadline: number,
  disk: ReturnType<typeof watchDisk>,
): Promise<boolean> {
  const startedAt = Date.now();
  // Not a login shell: the agent may have left a ~/.bash_profile that says all is well.
  const child = spawn(...agentShell('. /etc/profile; cd /workspace && eval "$1"', [command]), {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const log = capture(child, places.verify(index), logBytesMax);
  const watch = setInterval(() => {
    disk.look();
    if (disk.full() || stop.signal.aborted) void endAgent();
  }, lookEveryMs);
  const stopped = () => void endAgent();
  stop.signal.addEventListener("abort", stopped);
  const end = await ended(child, Math.max(1_000, deadline - Date.now()));
  clearInterval(watch);
  stop.signal.removeEventListener("abort", stopped);
  await endAgent();
  await log.closed();
  if (end.late) appendFileSync(places.verify(index), "the run's time was up\n");
  if (disk.full()) appendFileSync(places.verify(index), "the run's share of the disk was full\n");
  const exit = end.exit ?? (end.late ? 124 : 137);
  // Ended because the run was: that says nothing about the work.
  if (stop.signal.aborted && exit !== 0) return true;
  write({ type: "receipt", index, command, exit, durationMs: Date.now() - startedAt });
  return exit === 0;
}
