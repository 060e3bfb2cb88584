import {
  linkSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Clock } from "../app/protocol/clock.ts";
import { RunningState } from "../app/protocol/running-state.ts";

// One daemon a data folder: two would take each other's runs for leftovers.

/** A process, told apart from every other one, also after a restart of the machine. */
type Holder = {
  pid: number;
  /** When it started, in the kernel's ticks since the machine's start; null: this system does not say. */
  startedAt: string | null;
  /** This start of the machine; null: this system does not say. */
  boot: string | null;
  /** Which processes it can see, as those of a container see only one another; null as above. */
  namespace: string | null;
};

/** The lock of a process that cannot be seen from here is good for so long after it was last touched. */
const unseenMs = 60_000;
const touchMs = 15_000;

/** Another daemon has the folder; the message says which, and what to do. */
export class LockedError extends Error {}

/**
 * Takes the lock of a data folder for this process, and touches it now and then. Gives what releases it.
 *
 * @throws LockedError when a living daemon has it.
 */
export function lock(data: string, clock: Clock): () => void {
  const path = join(data, "lock");
  const mine = JSON.stringify(holderOf(process.pid));
  const draft = `${path}.${process.pid}`;
  writeFileSync(draft, mine, { mode: 0o600 });
  try {
    take(data, path, draft, clock);
  } finally {
    rmSync(draft, { force: true });
  }
  const life = new RunningState(clock);
  void touch(path, life);
  return () => {
    life.stop();
    if (read(path) === mine) rmSync(path, { force: true });
  };
}

async function touch(path: string, life: RunningState) {
  for (; life.running; await life.sleep(touchMs)) {
    const at = life.clock.now() / 1_000;
    try {
      utimesSync(path, at, at);
    } catch {
      // The folder is away or full for a moment: the next touch does it.
    }
  }
}

/** Made by a link, which is there whole or not at all, and never in place of another. */
function take(data: string, path: string, draft: string, clock: Clock) {
  for (let tries = 0; ; tries++) {
    try {
      return linkSync(draft, path);
    } catch (error) {
      if ((error as { code?: string }).code !== "EEXIST" || tries > 3) throw error;
    }
    const found = read(path);
    if (found === null) continue;
    const why = livingHolder(path, found, clock.now());
    if (why)
      throw new LockedError(
        `Another daemon (${why}) works in ${data}: stop it, or use --data DIR.`,
      );
    // Only if it is still the one that was looked at: somebody else may just have taken it.
    if (read(path) === found) rmSync(path, { force: true });
  }
}

/** Who has the lock, in words; null: nobody any more. */
function livingHolder(path: string, text: string, now: number): string | null {
  const holder = parse(text);
  if (!holder) return null;
  const { pid } = holder;
  const here = holderOf(process.pid);
  if (holder.boot !== here.boot) return null;
  if (holder.namespace !== here.namespace) {
    const ageMs = now - statSync(path).mtimeMs;
    const seconds = Math.ceil((unseenMs - ageMs) / 1_000);
    return ageMs < unseenMs
      ? `in another container; if it is gone, start again in ${seconds} s`
      : null;
  }
  // This process's own number was another's before.
  if (pid === process.pid || !isAlive(pid)) return null;
  return holder.startedAt === startOf(pid) ? `process ${pid}` : null;
}

function holderOf(pid: number): Holder {
  return {
    pid,
    startedAt: startOf(pid),
    boot: read("/proc/sys/kernel/random/boot_id")?.trim() ?? null,
    namespace: namespaceOf(pid),
  };
}

/** Field 22 of proc(5)'s stat; what comes before may hold blanks and brackets. */
function startOf(pid: number): string | null {
  const text = read(`/proc/${pid}/stat`);
  return text?.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? null;
}

function namespaceOf(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return null;
  }
}

/** Null: torn, or of another version. */
function parse(text: string): Holder | null {
  try {
    const found = JSON.parse(text) as Holder | number | null;
    return typeof found === "object" ? found : null;
  } catch {
    return null;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It is there, and somebody else's.
    return (error as { code?: string }).code === "EPERM";
  }
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}
