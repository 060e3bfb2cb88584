import { execFile } from "node:child_process";
import { readFileSync, statfsSync } from "node:fs";

// What a container may use, as seen from inside it. Memory, cpu and processes are the kernel's to
// limit; here is only noticed that it did. The disk has no such limit, so it is watched.

/** Where cgroup v2 keeps a file, then v1, which has a folder a controller. */
const cgroup = "/sys/fs/cgroup";

/** Counts how often the kernel has ended a process here for want of memory. */
export function memoryKills(root = cgroup): number {
  return counted(
    [`${root}/memory.events`, `${root}/memory/memory.oom_control`],
    /^oom_kill (\d+)/m,
  );
}

/** Counts how often a new process was refused because there were as many as allowed. */
export function processRefusals(root = cgroup): number {
  return counted([`${root}/pids.events`, `${root}/pids/pids.events`], /^max (\d+)/m);
}

function counted(paths: string[], pattern: RegExp): number {
  for (const path of paths) {
    try {
      return Number(pattern.exec(readFileSync(path, "utf8"))?.[1] ?? 0);
    } catch {
      // The other version of cgroups.
    }
  }
  return 0;
}

/** Looks that see new processes refused, until it is taken for a bomb; and calm ones that forgive. */
const refusedLooksMax = 6;
const calmLooksMax = 40;

/** True once processes are refused again and again; a build that hits the limit once or twice is not. */
export function watchProcesses(refusals: () => number = processRefusals): () => boolean {
  let last = refusals();
  let refused = 0;
  let calm = 0;
  return () => {
    const now = refusals();
    calm = now > last ? 0 : calm + 1;
    refused = now > last ? refused + 1 : calm >= calmLooksMax ? 0 : refused;
    last = now;
    return refused >= refusedLooksMax;
  };
}

/** A growth of the file system's use that calls for measuring, as a part of the limit. */
const growthPart = 1 / 20;
const growthBytesMin = 16 * 2 ** 20;
/** Measured at least, and at most, so often; and never for more than a tenth of the time. */
const measureMsMax = 60_000;
const measureMsMin = 1_000;
const measurePart = 10;
/** Of a run that has this much of its limit it is said that it filled the machine's disk. */
const guiltyPart = 1 / 4;

type DiskLimit = { bytesMax: number; reserveBytes: number };
/** Measured and free bytes; both may fail when no process can be started or read. */
type DiskView = { free(): number; used(): Promise<number> };

/**
 * Looks at the free space, which costs nothing, and measures what the run itself holds when that has
 * shrunk or a minute has gone. `full()` is true when it has more than it may, or when the disk is
 * nearly full and a good part of that is its own.
 */
export function watchDisk(limit: DiskLimit, view: DiskView, now: () => number) {
  let full = false;
  let measuring = false;
  let freeBefore = view.free();
  let nextAt = now() + measureMsMin;
  let lateAt = now() + measureMsMax;
  const measure = async (free: number) => {
    measuring = true;
    const startedAt = now();
    try {
      const used = await view.used();
      const crowded = free < limit.reserveBytes && used > limit.bytesMax * guiltyPart;
      full ||= used > limit.bytesMax || crowded;
    } catch {
      // So busy that nothing can be measured, while the disk runs full: that is its own doing too.
      full ||= free < limit.reserveBytes;
    } finally {
      const tookMs = now() - startedAt;
      freeBefore = free;
      nextAt = now() + Math.max(measureMsMin, tookMs * measurePart);
      lateAt = now() + Math.max(measureMsMax, tookMs * measurePart);
      measuring = false;
    }
  };
  return {
    full: () => full,
    look() {
      if (full || measuring || now() < nextAt) return;
      const free = view.free();
      const grown = freeBefore - free >= Math.max(growthBytesMin, limit.bytesMax * growthPart);
      if (grown || free < limit.reserveBytes || now() >= lateAt) void measure(free);
    },
  };
}

/**
 * What a run has written: all of /workspace, and of the rest of the container every file that was
 * written since `startedAt` (milliseconds since 1970). What lies in the image is not counted.
 */
export function containerDisk(startedAt: number): DiskView {
  const since = `@${Math.floor(startedAt / 1000)}`;
  return {
    free() {
      const { bavail, bsize } = statfsSync("/workspace");
      return bavail * bsize;
    },
    async used() {
      const [workspace, rest, unlinked] = await Promise.all([
        run("/usr/bin/du", ["-sk", "--one-file-system", "/workspace"]),
        run("/usr/bin/find", ["/", "-xdev", "-type", "f", "-newerct", since, "-printf", "%b\n"]),
        run("/usr/bin/setpriv", unlinkedFiles),
      ]);
      const blocksOf = (text: string) =>
        text.split("\n").reduce((sum, line) => sum + (Number(line.split(" ")[0]) || 0), 0);
      const once = [...new Set(unlinked.split("\n"))].join("\n");
      const blocks = blocksOf(rest) + blocksOf(once);
      return Number.parseInt(workspace, 10) * 1024 + blocks * 512;
    },
  };
}

/** Files that the agent's processes hold open and have removed: as its own user, who may look. */
const unlinkedFiles = [
  ...["--reuid=agent", "--regid=agent", "--init-groups", "/bin/bash", "-c"],
  "find -L /proc/[0-9]*/fd -type f -links 0 -printf '%b %D %i\\n' 2>/dev/null; true",
];

/** What it printed, also when it met files that vanished meanwhile. */
function run(file: string, args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(file, args, { maxBuffer: 64 * 2 ** 20, timeout: 60_000 }, (error, stdout) =>
      error && !stdout ? reject(error) : resolve(stdout),
    );
  });
}
