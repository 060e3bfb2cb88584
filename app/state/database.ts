import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "@libsql/client/sqlite3";
import type { LibSQLDatabase } from "drizzle-orm/libsql";
import { migrate } from "drizzle-orm/libsql/migrator";
import { drizzle } from "drizzle-orm/libsql/sqlite3";
import type { Clock } from "../protocol/clock.ts";
import { createGroup, type OfTransaction, withoutValues } from "./group.ts";
import type { Ids } from "./identity.ts";
import * as schema from "./schema.ts";
import type { Wake } from "./wake.ts";

type Drizzle = LibSQLDatabase<typeof schema>;
type DrizzleTransaction = Parameters<Parameters<Drizzle["transaction"]>[0]>[0];

/** What only reads: a transaction is one as well. */
export type Reads = Pick<Drizzle, "select" | "selectDistinct" | "run">;

/** A transaction that knows its time and its consequences. */
export type Tx = DrizzleTransaction & OfTransaction;

/**
 * One writer connection behind a mutex, readers apart (libsql gives every transaction a pooled
 * connection). A connection that once met SQLITE_BUSY is of no use until it is opened again: its later
 * commits fail, and a statement outside of a transaction is answered as if it were stored.
 */
export type Database = {
  read: Reads;
  /** Why the last write could not be stored, a full disk say; null: it was. */
  problem(): string | null;
  /**
   * Runs `work` in one IMMEDIATE transaction, and again when another process held the file. What waits
   * meanwhile goes into the next one together: a commit waits for the disk. Its wakes are sent after the
   * commit. Rejects with what `work` rejects with, and then nothing of it is written.
   */
  write<T>(work: (tx: Tx) => Promise<T>): Promise<T>;
  /** For what is written very often: prepared once, and a transaction of its own each time it is run. */
  statement(make: (db: Writer) => Statement): (values: Values) => Promise<void>;
  close(): void;
};
type Writer = Pick<Drizzle, "insert">;
/** Of its placeholders, by name. */
type Values = Record<string, string | number | null>;
type Statement = { run(values: Values): Promise<unknown> };

/** Where the database is, and what its transactions need. */
type DatabaseParts = {
  /** `file:PATH`, or a libsql server's URL. */
  url: string;
  authToken: string | undefined;
  clock: Clock;
  ids: Ids;
  wake: Wake;
};

/** How long a write waits for another process's lock. */
const busyRetriesMax = 60;
const busyPauseMs = 25;
/** How long a backup waits for one, in milliseconds. */
const backupBusyMs = 10_000;

/**
 * Opens the database and applies the migrations it lacks. Creates the file's folder where it is missing.
 *
 * @throws the engine's error when the file cannot be opened, or the server does not answer.
 */
export async function openDatabase(parts: DatabaseParts): Promise<Database> {
  const { url, authToken, clock } = parts;
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
  const patiently = createPatience(writer, clock, remote);
  const checkpoint = () =>
    turns.take(() => patiently(() => writer.execute("PRAGMA wal_checkpoint(PASSIVE)")));
  const checkpoints = remote ? null : createCheckpoints(await logOf(writer), clock, checkpoint);
  const inTurn = <T>(work: () => Promise<T>): Promise<T> =>
    turns.take(async () => {
      const result = await patiently(work);
      checkpoints?.committed();
      return result;
    });
  const group = createGroup({
    ...parts,
    inTurn,
    begin: db.transaction.bind(db),
    isStorageError,
    isOfAll,
  });
  let problem: string | null = null;
  const noted = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      const result = await work();
      problem = null;
      return result;
    } catch (error) {
      if (isStorageError(error)) problem = String(error);
      throw error;
    }
  };
  return {
    read: drizzle(reader, { schema }),
    problem: () => problem,
    write: (work) => noted(() => group(work)),
    statement(make) {
      const made = make(db);
      return async (values) => void (await noted(() => inTurn(() => made.run(values))));
    },
    close: () => {
      checkpoints?.stop();
      writer.close();
      reader.close();
    },
  };
}

/**
 * Copies the database at `url` (`file:PATH`) to a new file, whole and as of one moment, while the app may be at
 * work; what the file has is on disk then.
 *
 * @throws the engine's error when the database cannot be read or the file exists already.
 */
export async function backUp(url: string, path: string) {
  const client = createClient({ url, concurrency: 1, timeout: backupBusyMs });
  try {
    await client.execute({ sql: "VACUUM INTO ?", args: [path] });
  } finally {
    client.close();
  }
  const copy = openSync(path, "r+");
  fsyncSync(copy);
  closeSync(copy);
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
      // The next turn begins however this one ends; its caller hears of it.
      last = mine.catch(() => {});
      return mine;
    },
  };
}

/** How long the log may grow before its pages are written home; in a burst; and what it keeps then. */
const walBytesLeast = 32 * 2 ** 20;
const walBytesMost = 64 * 2 ** 20;
const walBytesKept = 16 * 2 ** 20;
const autoCheckpointPages = 32_768;
/** A log that grows by so much between two looks is a burst's. */
const lookMs = 500;
const burstBytes = 4 * 2 ** 20;

/** Where the log is: beside the file that SQLite has opened, whatever the URL and its links said. */
async function logOf(writer: Client): Promise<string> {
  const { rows } = await writer.execute("PRAGMA database_list");
  return `${rows[0]?.file}-wal`;
}

/**
 * A checkpoint writes every page a second time: rarely, so that a page changed often goes once, and not
 * while a burst of deliveries waits for its commits.
 */
function createCheckpoints(log: string, clock: Clock, checkpoint: () => Promise<unknown>) {
  let last = 0;
  let armed = false;
  const stop = new AbortController();
  const arm = () => {
    if (armed) return;
    armed = true;
    void clock
      .sleep(lookMs, stop.signal)
      .then(look)
      // What one fails to do, the next one does.
      .catch(() => {});
  };
  const look = async () => {
    armed = false;
    if (stop.signal.aborted) return;
    const { size } = statSync(log, { throwIfNoEntry: false }) ?? { size: 0 };
    const burst = size - last >= burstBytes;
    last = size;
    if (burst) arm();
    if (size >= (burst ? walBytesMost : walBytesLeast)) await checkpoint();
  };
  return { committed: arm, stop: () => stop.abort() };
}

/** Runs `work` again when another process held the file, each time on a connection that never met that. */
function createPatience(client: Client, clock: Clock, remote: boolean) {
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
          // It is tried again before the next write.
          await renew().catch(() => {});
          throw withoutValues(error);
        }
        await clock.sleep(busyPauseMs * (1 + clock.chance()), new AbortController().signal);
      }
    }
  };
}

/** Whether the database itself failed, a full disk or a lock, and not what was asked of it. */
export const isStorageError = (error: unknown): boolean => hasCode(error, /^SQLITE_(?!CONSTRAINT)/);

const isOfAll = (error: unknown): boolean =>
  hasCode(error, /^SQLITE_(BUSY|LOCKED|FULL|IOERR|CORRUPT|NOTADB|READONLY|CANTOPEN|NOMEM)/);

const isBusy = (error: unknown): boolean => hasCode(error, /^SQLITE_BUSY/);

/** By the code alone, its own or a cause's: a statement's message holds what people wrote. */
function hasCode(error: unknown, code: RegExp): boolean {
  for (let at = error; at instanceof Error; at = at.cause)
    if ("code" in at && code.test(String(at.code))) return true;
  return false;
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
