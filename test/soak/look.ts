import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { type Client, createClient } from "@libsql/client";
import { pathsUnder } from "../support/files.ts";
import { type Program, residentMb, until } from "../support/rig.ts";

// What a soak looks at: memory and handles of both programs, the disk's folders and the database's tables.

const terminal = "('succeeded', 'failed', 'cancelled', 'timed_out', 'lost')";
const tables = ["deliveries", "intents", "pipelines", "runs", "leases", "events", "messages"];

type Seen = {
  minute: number;
  ended: number;
  appMb: number;
  appHandles: number;
  daemonMb: number;
  daemonHandles: number;
  /** Of the daemon's data folder, by its first names. */
  diskKb: Record<string, number>;
  rows: Record<string, number>;
};

export class Look {
  readonly seen: Seen[] = [];
  readonly folder: string;
  readonly #client: Client;
  #open: string[] = [];

  private constructor(folder: string, client: Client) {
    this.folder = folder;
    this.#client = client;
  }

  static async open(folder: string): Promise<Look> {
    const client = createClient({ url: `file:${join(folder, "app/app.db")}` });
    await client.execute("pragma busy_timeout = 5000");
    return new Look(folder, client);
  }

  close() {
    this.#client.close();
  }

  async #rows(sql: string, args: (string | number)[] = []) {
    return (await this.#client.execute({ sql, args })).rows;
  }

  /** Whether the run has ended before it stood still for so long. */
  async waitForEnd(issue: number, number: number, ms: number): Promise<boolean> {
    const sql = `select 1 from runs join pipelines on pipelines.id = runs.pipeline_id
      where pipelines.issue = ? and runs.number >= ? and runs.state in ${terminal}`;
    const look = async () => (await this.#rows(sql, [issue, number]).catch(() => [])).length > 0;
    return await until("its end", look, ms).catch(() => false);
  }

  async take({ app, daemon }: { app: Program; daemon: Program }, minute: number): Promise<Seen> {
    const rows: Record<string, number> = {};
    for (const table of tables)
      rows[table] = Number((await this.#rows(`select count(*) as n from ${table}`))[0]?.n);
    const open = await this.#rows(`select id, state from runs where state not in ${terminal}`);
    this.#open = open.map((row) => `run ${row.id} is ${row.state}`);
    const [ended] = await this.#rows(`select count(*) as n from runs where state in ${terminal}`);
    const data = join(this.folder, "soak/daemon");
    const diskKb: Record<string, number> = {};
    for (const name of readdirSync(data)) diskKb[name] = kbOf(join(data, name));
    const seen = {
      minute,
      ended: Number(ended?.n),
      appMb: Math.round(residentMb(app.process)),
      appHandles: handlesOf(app),
      daemonMb: Math.round(residentMb(daemon.process)),
      daemonHandles: handlesOf(daemon),
      diskKb,
      rows,
    };
    this.seen.push(seen);
    return seen;
  }

  /** Runs without an end, as the last look saw them. */
  openRuns(): string[] {
    return this.#open;
  }

  /** What is left of runs in the daemon's folder. */
  folders(): string[] {
    return ["runs", "kept"].flatMap((name) => {
      try {
        return readdirSync(join(this.folder, "soak/daemon", name)).map((one) => `${name}/${one}`);
      } catch {
        return [];
      }
    });
  }
}

const handlesOf = ({ process: { pid } }: Program) => readdirSync(`/proc/${pid}/fd`).length;

function kbOf(path: string): number {
  const bytes = [path, ...pathsUnder(path)].reduce((sum, one) => sum + sizeOf(one), 0);
  return Math.round(bytes / 1_024);
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}

type Report = {
  look: Look;
  last: Seen;
  harms: Record<string, number>;
  stuck: string[];
  left: string[];
};

/** Prints the first look, three between and the last as a table, and all of it as one line of JSON. */
export function print({ look, last, harms, stuck, left }: Report) {
  const { seen } = look;
  const some = [0, 0.25, 0.5, 0.75].map((part) => seen[Math.floor(part * seen.length)] ?? last);
  console.table(
    [...new Set([...some, last])].map(({ minute, diskKb, rows, ...one }) => ({
      minute: Number.isNaN(minute) ? "end" : minute,
      ...one,
      "disk (KB)": Object.values(diskKb).reduce((sum, kb) => sum + kb, 0),
      "rows a run": (Object.values(rows).reduce((sum, n) => sum + n, 0) / one.ended).toFixed(1),
    })),
  );
  for (const [what, times] of Object.entries(harms)) console.log(`killed ${what}: ${times} times`);
  console.log(
    stuck.length + left.length === 0
      ? "nothing is left, and every run ended"
      : `left: ${[...stuck, ...left].join(", ")}`,
  );
  process.stdout.write(`${JSON.stringify({ soak: seen, harms, stuck, left })}\n`);
}
