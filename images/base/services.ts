import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import type { Line } from "./task.ts";

// The services that preboot started with the helper `start-service`: a file each with their process and the
// time they took, and a log beside it.

const tailBytes = 4_000;

type Told = Extract<Line, { type: "service" }>;
type Service = { name: string; pid: number; durationMs: number; died: boolean };
export type Services = ReturnType<typeof createServices>;

/** The services that preboot starts: kept watch over until the run ends. */
export function createServices(folder: string, write: (line: Omit<Told, "at">) => void) {
  const known: Service[] = [];
  let timer: NodeJS.Timeout | null = null;
  const tell = ({ name, durationMs }: Service, state: Told["state"], tail: string) =>
    write({ type: "service", name, state, durationMs, tail });
  const log = (name: string) => endOfFile(join(folder, `${name}.log`));
  const look = () => {
    for (const service of known) {
      if (service.died || isAlive(service.pid)) continue;
      service.died = true;
      tell(service, "died", log(service.name));
    }
  };
  return {
    /** Preboot is over: these it has started. */
    tellReady() {
      for (const name of namesIn(folder)) {
        const [pid = 0, durationMs = 0] = readFileSync(join(folder, name), "utf8")
          .split(" ")
          .map(Number);
        const service = { name, pid, durationMs, died: false };
        known.push(service);
        tell(service, "ready", "");
      }
    },
    /** One that ends from here on is told of. */
    watch(everyMs: number) {
      timer = setInterval(look, everyMs);
    },
    /** Something else failed: their logs may say why. */
    tellEnds() {
      look();
      for (const service of known) {
        if (service.died) continue;
        const tail = log(service.name);
        if (tail) tell(service, "running", tail);
      }
    },
    close() {
      if (timer) clearInterval(timer);
    },
  };
}

function namesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => !name.startsWith(".") && !name.endsWith(".log"));
}

function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** The last bytes of a file as text; empty where it is not there. */
export function endOfFile(path: string, bytes = tailBytes): string {
  if (!existsSync(path)) return "";
  const size = statSync(path).size;
  const start = Math.max(0, size - bytes);
  const buffer = Buffer.alloc(size - start);
  const file = openSync(path, "r");
  try {
    readSync(file, buffer, 0, buffer.length, start);
  } finally {
    closeSync(file);
  }
  return buffer.toString("utf8").trimEnd();
}
