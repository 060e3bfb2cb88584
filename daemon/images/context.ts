import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join, posix } from "node:path";
import type { Readable } from "node:stream";
import dockerignore from "@balena/dockerignore";
import { pack } from "tar-stream";
import { GitError, gitEnvironment, gitIn } from "../repository/git.ts";

// What goes into a build: a folder of this machine, or a commit of a mirror; in both less what
// .dockerignore leaves out, so that what is hashed is what is sent.

/** Of one context. */
const filesMax = 200_000;
const bytesMax = 2 * 2 ** 30;

export type Context = {
  /** The Dockerfile's text. */
  text: string;
  tar(): Readable;
};

/** Of a commit, with a hash of everything that goes in, names and modes with it. */
type CommitContext = Context & { hash: string };

/** Why there is nothing to build from: a sentence. */
export class ContextError extends Error {}

/** `<Dockerfile>.dockerignore` goes before `.dockerignore`, as in Docker's own tools. */
const ignoreFilesOf = (dockerfile: string): string[] => [
  `${dockerfile}.dockerignore`,
  ".dockerignore",
];

/** Whether a path goes in; the Dockerfile always does. */
function filterOf(text: string | null, dockerfile: string): (path: string) => boolean {
  if (text === null) return (path) => path !== ".git" && !path.startsWith(".git/");
  const rules = dockerignore.default({ ignorecase: false }).add(text);
  return (path) => path === dockerfile || !rules.ignores(path);
}

/**
 * A build's context from a folder of this machine.
 *
 * @throws ContextError when there is nothing to build from.
 */
export async function folderContext(folder: string, dockerfile: string): Promise<Context> {
  const text = await readFile(join(folder, dockerfile), "utf8").catch(() => {
    throw new ContextError(
      `${join(folder, dockerfile)} cannot be read: name the Dockerfile with --file.`,
    );
  });
  let rules: string | null = null;
  for (const name of ignoreFilesOf(dockerfile))
    rules ??= await readFile(join(folder, name), "utf8").catch(() => null);
  const files = await list(folder, filterOf(rules, dockerfile));
  return { text, tar: () => packFolder(folder, files) };
}

type File = { path: string; size: number; mode: number; link: string | null };

async function list(folder: string, wanted: (path: string) => boolean): Promise<File[]> {
  const found: File[] = [];
  let bytes = 0;
  const visit = async (below: string) => {
    const entries = await readdir(join(folder, below), { withFileTypes: true });
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const path = posix.join(below, entry.name);
      // A rule further on may take a file of an ignored folder back in: folders are always looked into.
      if (entry.isDirectory()) {
        if (path !== ".git") await visit(path);
        continue;
      }
      if (!wanted(path) || !(entry.isFile() || entry.isSymbolicLink())) continue;
      const { size, mode } = await lstat(join(folder, path));
      const link = entry.isSymbolicLink() ? await readlink(join(folder, path)) : null;
      found.push({ path, size: link === null ? size : 0, mode: mode & 0o777, link });
      bytes += size;
      if (found.length > filesMax || bytes > bytesMax)
        throw new ContextError(
          `${folder} has more than ${filesMax} files or ${bytesMax / 2 ** 30} GB: leave out what the image does not need, in .dockerignore.`,
        );
    }
  };
  await visit("");
  return found;
}

function packFolder(folder: string, files: File[]): Readable {
  const tar = pack();
  const fillAll = async () => {
    for (const { path, size, mode, link } of files) {
      if (link !== null) {
        tar.entry({ name: path, type: "symlink", linkname: link, mode });
        continue;
      }
      const chunks = createReadStream(join(folder, path)) as AsyncIterable<Buffer>;
      await fillEntry(tar.entry({ name: path, size, mode }), chunks);
    }
    tar.finalize();
  };
  fillAll().catch((error) => tar.destroy(error));
  return tar as unknown as Readable;
}

/**
 * A build's context from a commit of a mirror: nothing is checked out, and no attribute of it changes what
 * is read.
 *
 * @throws ContextError when there is nothing to build from.
 */
export async function commitContext(
  mirror: string,
  sha: string,
  dockerfile: string,
): Promise<CommitContext> {
  const git = gitIn(mirror, null);
  const rows = (await git(["ls-tree", "-r", "-z", "--full-tree", sha])).split("\0").filter(Boolean);
  const blobs = new Map<string, Blob>();
  for (const row of rows) {
    const [mode = "", type, oid = ""] = row.slice(0, row.indexOf("\t")).split(" ");
    const path = row.slice(row.indexOf("\t") + 1);
    if (type === "blob") blobs.set(path, { path, mode, oid });
  }
  const read = async (path: string) => {
    const found = blobs.get(path);
    return found ? await git(["cat-file", "blob", found.oid]) : null;
  };
  const recipe = blobs.get(dockerfile);
  // A link's text is a path: what would be checked is not what the engine would read.
  if (recipe?.mode === "120000")
    throw new ContextError(`${dockerfile} is a link: name the file itself.`);
  const text = await read(dockerfile);
  if (text === null) throw new ContextError(`There is no ${dockerfile} on the default branch.`);
  let rules: string | null = null;
  for (const name of ignoreFilesOf(dockerfile)) rules ??= await read(name);
  const wanted = filterOf(rules, dockerfile);
  const chosen = [...blobs.values()].filter(({ path }) => wanted(path));
  if (chosen.length > filesMax)
    throw new ContextError(
      `The commit has more than ${filesMax} files: leave some out in .dockerignore.`,
    );
  const lines = chosen.map(({ path, mode, oid }) => `${mode} ${oid} ${path}\0`);
  const hash = createHash("sha256").update(`${dockerfile}\0`).update(lines.join("")).digest("hex");
  return { text, hash, tar: () => packCommit(mirror, chosen) };
}

type Blob = { path: string; mode: string; oid: string };

function packCommit(mirror: string, blobs: Blob[]): Readable {
  const tar = pack();
  const git = spawn("git", ["--git-dir", mirror, "cat-file", "--batch"], {
    env: gitEnvironment(null),
    stdio: ["pipe", "pipe", "ignore"],
  });
  git.on("error", (error) => tar.destroy(error));
  // A pipe whose reader has ended: its exit tells why.
  git.stdin.on("error", () => {});
  git.stdin.end(blobs.map(({ oid }) => `${oid}\n`).join(""));
  tar.on("close", () => void git.kill());
  packBlobs(tar, git.stdout, blobs).then(
    () => tar.finalize(),
    (error) => tar.destroy(error),
  );
  return tar as unknown as Readable;
}

/** `OID blob SIZE\n`, the bytes, `\n`: once for each that was asked for, in order. */
async function packBlobs(tar: Pack, output: Readable, blobs: Blob[]) {
  const bytes = new Bytes(output);
  let total = 0;
  for (const { path, mode, oid } of blobs) {
    const [named, type, length] = (await bytes.line()).split(" ");
    const size = Number(length);
    if (named !== oid || type !== "blob") throw new GitError(`git has not ${path} (${oid})`);
    total += size;
    if (total > bytesMax)
      throw new ContextError(
        `The commit has more than ${bytesMax / 2 ** 30} GB: leave some out in .dockerignore.`,
      );
    if (mode === "120000") {
      let linkname = "";
      for await (const chunk of bytes.take(size)) linkname += chunk.toString("utf8");
      tar.entry({ name: path, type: "symlink", linkname, mode: 0o777 });
    } else {
      const entry = tar.entry({ name: path, size, mode: mode === "100755" ? 0o755 : 0o644 });
      await fillEntry(entry, bytes.take(size));
    }
    await bytes.line();
  }
}

type Pack = ReturnType<typeof pack>;

async function fillEntry(entry: ReturnType<Pack["entry"]>, chunks: AsyncIterable<Buffer>) {
  for await (const chunk of chunks)
    if (!entry.write(chunk))
      await new Promise<void>((resolve) => entry.once("drain", () => resolve()));
  await new Promise<void>((resolve, reject) => {
    entry.once("error", reject);
    entry.end(() => resolve());
  });
}

/** A stream, read by lines and by lengths. */
class Bytes {
  #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(stream: Readable) {
    this.#chunks = stream[Symbol.asyncIterator]();
  }
  async #more() {
    const next = await this.#chunks.next();
    if (next.done) throw new GitError("git ended before all was read");
    this.#rest = this.#rest.length > 0 ? Buffer.concat([this.#rest, next.value]) : next.value;
  }
  async line(): Promise<string> {
    for (;;) {
      const end = this.#rest.indexOf(10);
      if (end >= 0) {
        const line = this.#rest.subarray(0, end).toString("utf8");
        this.#rest = this.#rest.subarray(end + 1);
        return line;
      }
      await this.#more();
    }
  }
  async *take(length: number): AsyncGenerator<Buffer> {
    for (let left = length; left > 0; ) {
      if (this.#rest.length === 0) await this.#more();
      const chunk = this.#rest.subarray(0, left);
      this.#rest = this.#rest.subarray(chunk.length);
      left -= chunk.length;
      yield chunk;
    }
  }
}
