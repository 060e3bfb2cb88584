import {
  appendFileSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { open, rename, rm, statfs } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * What a daemon keeps over its own death: records, outboxes, transcripts, kept gates. Paths are
 * absolute. What returns is with the system, so it survives a kill; after `replace` and `sync` a power cut,
 * too. Every method throws the system's error (`code`: "ENOSPC", "EACCES", …).
 */
export interface Disk {
  /** Gives null when there is no such file. */
  read(path: string): string | null;
  /** Makes the file (0600) when it is missing; its folder is there. */
  append(path: string, text: string): void;
  /** Writes a file (0600) whole or not at all, and makes its folder: a kill leaves the one before. */
  replace(path: string, text: string): void;
  /** Resolves when what was appended survives a power cut. */
  sync(path: string): Promise<void>;
  truncate(path: string, bytes: number): void;
  /** Gives a file's size in bytes; null when it is missing. */
  size(path: string): number | null;
  exists(path: string): boolean;
  /** Lists the names in a folder; empty when it is missing. */
  list(folder: string): string[];
  /** Moves a file or folder, making the folder it goes to. */
  move(from: string, to: string): Promise<void>;
  /** Removes a file, or a folder with all it has; nothing to do when it is missing. */
  remove(path: string): Promise<void>;
  /** Gives the bytes that are free where `folder` lies; null when that cannot be looked at. */
  free(folder: string): Promise<number | null>;
}

/** The disk of this machine. */
export const fileDisk: Disk = {
  read: (path) => unlessMissing(() => readFileSync(path, "utf8")),
  append: (path, text) => appendFileSync(path, text, { mode: 0o600 }),
  replace(path, text) {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const file = openSync(`${path}.new`, "w", 0o600);
    try {
      writeFileSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(`${path}.new`, path);
    // The name is on disk when its folder is.
    const folder = openSync(dirname(path), "r");
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  },
  async sync(path) {
    const file = await open(path, "r+");
    try {
      await file.datasync();
    } finally {
      await file.close();
    }
  },
  truncate: truncateSync,
  size: (path) => unlessMissing(() => statSync(path).size),
  exists: existsSync,
  list: (folder) => unlessMissing(() => readdirSync(folder)) ?? [],
  async move(from, to) {
    mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
    await rename(from, to);
  },
  async remove(path) {
    await rm(path, { recursive: true, force: true });
  },
  async free(folder) {
    // An engine elsewhere: its disk is not ours to look at.
    const found = await statfs(folder).catch(() => null);
    return found && found.bavail * found.bsize;
  },
};

/** Whether an error says that a disk is full, or a quota of it. */
export const isFull = (error: unknown): boolean =>
  ["ENOSPC", "EDQUOT"].includes((error as { code?: string }).code ?? "");

function unlessMissing<T>(work: () => T): T | null {
  try {
    return work();
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return null;
    throw error;
  }
}
