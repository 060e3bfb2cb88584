import { createHash } from "node:crypto";
import { existsSync, mkdirSync } from "node:fs";
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
  close(): void;
};

/** How long a write waits for another process's lock. */
const busyRetriesMax = 60;
const busyPauseMs = 25;

/** Opens (and migrates) `file:PATH`, or a libsql server by URL. */
export async function openDatabase(url: string, authToken: string | undefined): Promise<Database> {
  const remote = !url.startsWith("file:");
  if (!remote) mkdirSync(dirname(url.slice("file:".length)), { recursive: true, mode: 0o700 });
  const connect = remote ? (await import("@libsql/client")).createClient : createClient;
  const writer = connect({ url, authToken, concurrency: remote ? 20 : 1, timeout: 0 });
  const reader = connect({ url, authToken, concurrency: 4, timeout: 0 });
  if (!remote) await prepare(writer);
  const write = oneAtATime(writer, drizzle(writer, { schema }), remote);
  await migrate(drizzle(writer), { migrationsFolder: migrationsFolder() });
  return {
    read: drizzle(reader, { schema }),
    write,
    close: () => {
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
  // A checkpoint writes every page a second time: rarely, so that a page changed often goes once.
  await writer.execute("PRAGMA wal_autocheckpoint = 8000");
}

function oneAtATime(client: Client, db: LibSQLDatabase<typeof schema>, remote: boolean) {
  let last: Promise<unknown> = Promise.resolve();
  return function write<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    const mine = last.then(() => attempt(work));
    last = mine.catch(() => {});
    return mine;
  };
  async function attempt<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries++) {
      try {
        return await db.transaction(work);
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
