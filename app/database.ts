import { createHash } from "node:crypto";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "@libsql/client/sqlite3";
import type { LibSQLDatabase } from "drizzle-orm/libsql";
import { migrate } from "drizzle-orm/libsql/migrator";
import { drizzle } from "drizzle-orm/libsql/sqlite3";
import * as schema from "./schema.ts";

/**
 * One writer connection behind a mutex, readers apart (libsql gives every transaction a pooled
 * connection, and a connection that once met SQLITE_BUSY fails each later commit until reconnect).
 */
export type Tx = Parameters<Parameters<LibSQLDatabase<typeof schema>["transaction"]>[0]>[0];
type Reader = Omit<LibSQLDatabase<typeof schema>, "insert" | "update" | "delete">;
export type Database = {
  read: Reader;
  /** Runs `work` in one IMMEDIATE transaction; it is run again when another process held the file. */
  write<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** For what is written very often: made once, and a transaction of its own each time it is run. */
  statement(make: (db: Writer) => Statement): (values: Values) => Promise<void>;
  close(): void;
};
type Writer = Pick<LibSQLDatabase<typeof schema>, "insert">;
/** Of its placeholders, by name. */
type Values = Record<string, string | number>;
type Statement = { run(values: Values): Promise<unknown> };

/** How long a write waits for another process's lock. */
const busyRetriesMax = 60;
const busyPauseMs = 25;

/** Opens (and migrates) `file:PATH`, or a libsql server by URL. */
export async function openDatabase(url: string, authToken: string | undefined): Promise<Database> {
  const remote = !url.startsWith("file:");
  const path = url.slice("file:".length);
  if (!remote) mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const connect = remote ? (await import("@libsql/client")).createClient : createClient;
  const writer = connect({ url, authToken, concurrency: remote ? 20 : 1, timeout: 0 });
  const reader = connect({ url, authToken, concurrency: 4, timeout: 0 });
  if (!remote) await prepare(writer);
  const turns = createTurns();
  const db = drizzle(writer, { schema });
  await migrate(drizzle(writer), { migrationsFolder: migrationsFolder() });
  const checkpoints = remote ? null : createCheckpoints(writer, `${path}-wal`, turns);
  const inTurn = <T>(work: () => Promise<T>): Promise<T> =>
    turns.take(async () => {
      const result = await patiently(writer, remote, work);
      checkpoints?.committed();
      return result;
    });
  return {
    read: drizzle(reader, { schema }),
    write: (work) => inTurn(() => db.transaction(work)),
    statement(make) {
      const made = make(db);
      return async (values) => void (await inTurn(() => made.run(values)));
    },
    close: () => {
      checkpoints?.stop();
      writer.close();
      reader.close();
    },
  };
}

async function prepare(writer: Client) {
  await writer.execute("PRAGMA journal_mode = WAL");
  // An accepted delivery must survive a power cut: GitHub will not send it again by itself.
  await writer.execute("PRAGMA synchronous = FULL");
  await writer.execute("PRAGMA foreign_keys = ON");
  // Not within a commit that somebody waits for: createCheckpoints.
  await writer.execute("PRAGMA wal_autocheckpoint = 0");
  await writer.execute(`PRAGMA journal_size_limit = ${walBytesKept}`);
}

type Turns = ReturnType<typeof createTurns>;

/** One after another, in the order they came. */
function createTurns() {
  let last: Promise<unknown> = Promise.resolve();
  return {
    take<T>(work: () => Promise<T>): Promise<T> {
      const mine = last.then(work);
      last = mine.catch(() => {});
      return mine;
    },
  };
}

/** How long the log may grow before its pages are written home; while many write; and what it keeps then. */
const walBytesLeast = 32 * 2 ** 20;
const walBytesMost = 256 * 2 ** 20;
const walBytesKept = 16 * 2 ** 20;
/** So many commits between two looks are many. */
const lookMs = 500;
const manyCommits = 20;

/**
 * A checkpoint writes every page a second time: rarely, so that a page changed often goes once, and not
 * while a storm of deliveries waits for its commits. What one fails to do, the next one does.
 */
function createCheckpoints(writer: Client, walPath: string, turns: Turns) {
  let commits = 0;
  let timer: NodeJS.Timeout | undefined;
  const arm = () => {
    timer ??= setTimeout(() => void look(), lookMs).unref();
  };
  const look = async () => {
    timer = undefined;
    const many = commits >= manyCommits;
    commits = 0;
    if (many) arm();
    const { size } = statSync(walPath, { throwIfNoEntry: false }) ?? { size: 0 };
    if (size >= (many ? walBytesMost : walBytesLeast))
      await turns.take(() => writer.execute("PRAGMA wal_checkpoint(PASSIVE)")).catch(() => {});
  };
  return {
    committed() {
      commits += 1;
      arm();
    },
    stop: () => clearTimeout(timer),
  };
}

/** Runs `work` again when another process held the file. */
async function patiently<T>(client: Client, remote: boolean, work: () => Promise<T>): Promise<T> {
  for (let tries = 0; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (!isBusy(error) || tries >= busyRetriesMax) throw error;
      await new Promise((resolve) => setTimeout(resolve, busyPauseMs * (1 + Math.random())));
      if (!remote) {
        await client.reconnect();
        await prepare(client);
      }
    }
  }
}

function isBusy(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause) {
    const code = "code" in at ? String(at.code) : "";
    if (code.startsWith("SQLITE_BUSY") || at.message.includes("SQLITE_BUSY")) return true;
  }
  return false;
}

/** `migrations/` lies beside the sources, and one level above their compiled form. */
function migrationsFolder(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const found = [join(here, "../migrations"), join(here, "../../migrations")].find(existsSync);
  if (!found) throw new Error("the migrations folder is missing from this installation of Trimo");
  return found;
}

/** What a token is stored as. */
export function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
