import { createHash } from "node:crypto";
import { existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "@libsql/client/sqlite3";
import { DrizzleQueryError } from "drizzle-orm/errors";
import type { LibSQLDatabase } from "drizzle-orm/libsql";
import { migrate } from "drizzle-orm/libsql/migrator";
import { drizzle } from "drizzle-orm/libsql/sqlite3";
import * as schema from "./schema.ts";

/**
 * One writer connection behind a mutex, readers apart (libsql gives every transaction a pooled
 * connection). A connection that once met SQLITE_BUSY is of no use until it is opened again: its later
 * commits fail, and a statement outside of a transaction is answered as if it were stored.
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
  if (!remote) mkdirSync(dirname(url.slice("file:".length)), { recursive: true, mode: 0o700 });
  const connect = remote ? (await import("@libsql/client")).createClient : createClient;
  const writer = connect({ url, authToken, concurrency: remote ? 20 : 1, timeout: 0 });
  // Readers meet a lock only while a log is recovered; they wait for it, which holds up the process.
  const reader = connect({ url, authToken, concurrency: 4, timeout: remote ? 0 : 1_000 });
  if (!remote) await prepare(writer);
  const turns = createTurns();
  const db = drizzle(writer, { schema });
  await migrate(drizzle(writer), { migrationsFolder: migrationsFolder() });
  const patiently = createPatience(writer, remote);
  const checkpoint = () =>
    turns.take(() => patiently(() => writer.execute("PRAGMA wal_checkpoint(PASSIVE)")));
  const checkpoints = remote ? null : createCheckpoints(await logOf(writer), checkpoint);
  const inTurn = <T>(work: () => Promise<T>): Promise<T> =>
    turns.take(async () => {
      const result = await patiently(work);
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
  // Not within a commit that somebody waits for: createCheckpoints. This is for when that never comes to it.
  await writer.execute(`PRAGMA wal_autocheckpoint = ${autoCheckpointPages}`);
  await writer.execute(`PRAGMA journal_size_limit = ${walBytesKept}`);
}

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

/** How long the log may grow before its pages are written home; in a storm; and what it keeps then. */
const walBytesLeast = 32 * 2 ** 20;
const walBytesMost = 64 * 2 ** 20;
const walBytesKept = 16 * 2 ** 20;
const autoCheckpointPages = 32_768;
/** A log that grows by so much between two looks is a storm's. */
const lookMs = 500;
const stormBytes = 4 * 2 ** 20;

/** Where the log is: beside the file that SQLite has opened, whatever the URL and its links said. */
async function logOf(writer: Client): Promise<string> {
  const { rows } = await writer.execute("PRAGMA database_list");
  return `${rows[0]?.file}-wal`;
}

/**
 * A checkpoint writes every page a second time: rarely, so that a page changed often goes once, and not
 * while a storm of deliveries waits for its commits. What one fails to do, the next one does.
 */
function createCheckpoints(log: string, checkpoint: () => Promise<unknown>) {
  let last = 0;
  let timer: NodeJS.Timeout | undefined;
  const arm = () => {
    timer ??= setTimeout(() => void look().catch(() => {}), lookMs).unref();
  };
  const look = async () => {
    timer = undefined;
    const { size } = statSync(log, { throwIfNoEntry: false }) ?? { size: 0 };
    const storm = size - last >= stormBytes;
    last = size;
    if (storm) arm();
    if (size >= (storm ? walBytesMost : walBytesLeast)) await checkpoint();
  };
  return { committed: arm, stop: () => clearTimeout(timer) };
}

/** Runs `work` again when another process held the file, each time on a connection that never met that. */
function createPatience(client: Client, remote: boolean) {
  let spoiled = false;
  const renew = async () => {
    if (remote || !spoiled) return;
    await client.reconnect();
    await prepare(client);
    spoiled = false;
  };
  return async function patiently<T>(work: () => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries++) {
      try {
        await renew();
        return await work();
      } catch (error) {
        if (!isBusy(error)) throw withoutValues(error);
        spoiled = true;
        if (tries >= busyRetriesMax) {
          await renew().catch(() => {});
          throw withoutValues(error);
        }
        await new Promise((resolve) => setTimeout(resolve, busyPauseMs * (1 + Math.random())));
      }
    }
  };
}

/** By the code alone: a statement's message holds what people wrote. */
function isBusy(error: unknown): boolean {
  for (let at = error; at instanceof Error; at = at.cause)
    if ("code" in at && String(at.code).startsWith("SQLITE_BUSY")) return true;
  return false;
}

/** Drizzle puts all values, whole deliveries, into the message of its error, which is then logged. */
function withoutValues(error: unknown): unknown {
  if (!(error instanceof DrizzleQueryError)) return error;
  return new Error(`${error.cause?.message ?? "it failed"}, in: ${error.query.slice(0, 300)}`, {
    cause: error.cause,
  });
}

/** `migrations/` lies beside the sources, and one level above their compiled form. */
function migrationsFolder(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const found = [join(here, "../../migrations"), join(here, "../../../migrations")].find(
    existsSync,
  );
  if (!found) throw new Error("the migrations folder is missing from this installation of Trimo");
  return found;
}

/** What a token is stored as. */
export function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
