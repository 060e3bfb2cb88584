import type { ChildProcess } from "node:child_process";
import { appendFileSync } from "node:fs";

export const tailBytes = 8_000;

/** Stands where output was left out. */
const cutMark = "\n…\n";
/** How long a pipe may stay open after all of its processes were ended. */
const drainMs = 2_000;

/**
 * Copies what a process prints to a file, up to a limit, and the end of what comes after it. By a
 * pipe: with the file itself in hand it could make it any size.
 */
export function capture(child: ChildProcess, path: string, bytesMax: number) {
  appendFileSync(path, "", { mode: 0o644 });
  let bytes = 0;
  let after = Buffer.alloc(0);
  const take = (chunk: Buffer) => {
    const room = Math.max(0, bytesMax - bytes);
    if (room > 0) appendFileSync(path, chunk.subarray(0, room));
    if (chunk.length > room)
      after = Buffer.concat([after, chunk.subarray(room)]).subarray(-tailBytes);
    bytes += chunk.length;
  };
  child.stdout?.on("data", take);
  child.stderr?.on("data", take);
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  return {
    full: () => bytes > bytesMax,
    /** All of it is in the file; a process that cannot be ended is not waited for. */
    async closed() {
      await Promise.race([closed, pause(drainMs)]);
      if (after.length > 0) appendFileSync(path, Buffer.concat([Buffer.from(cutMark), after]));
    },
  };
}

type End = { exit: number | null; signal: string | null; late: boolean; error: string | null };

/** Resolves when a process has ended, with its exit code or signal. */
export function ended(child: ChildProcess, limitMs: number | null): Promise<End> {
  return new Promise((resolve) => {
    const timer = limitMs === null ? null : setTimeout(() => finish(null, null, true), limitMs);
    child.on("error", (error) => finish(127, null, false, error.message));
    child.on("exit", (exit, signal) => finish(exit, signal, false));
    function finish(exit: number | null, signal: string | null, late: boolean, error?: string) {
      if (timer) clearTimeout(timer);
      resolve({ exit, signal, late, error: error ?? null });
    }
  });
}

/** Ends every process of a process group; nothing to do when there is none. */
export function killGroup(child: ChildProcess) {
  try {
    if (child.pid) process.kill(-child.pid, "SIGKILL");
  } catch {
    // It ended by itself meanwhile.
  }
}

/** Resolves after so many milliseconds. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
