import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { lstat, readdir, readFile, readlink } from "node:fs/promises";
import { join, posix } from "node:path";
import type { Readable } from "node:stream";
import dockerignore from "@balena/dockerignore";
import { extract, pack } from "tar-stream";
import { GitError, gitEnvironment, gitIn } from "./git.ts";

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
export type CommitContext = Context & { hash: string };

/** Why there is nothing to build from: a sentence. */
export class ContextError extends Error {}

/** `<Dockerfile>.dockerignore` goes before `.dockerignore`, as in Docker's own tools. */
const ignoreFilesOf = (dockerfile: string): string[] => [
  `${dockerfile}.dockerignore`,
  posix.join(".dockerignore"),
];

/** Whether a path goes in; the Dockerfile always does. */
function filterOf(text: string | null, dockerfile: string): (path: string) => boolean {
  if (text === null) return (path) => path !== ".git" && !path.startsWith(".git/");
  const rules = dockerignore.default().add(text);
  return (path) => path === dockerfile || !rules.ignores(path);
}

/** A folder of this machine. */
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
  const fill = async () => {
    for (const { path, size, mode, link } of files) {
      if (link !== null) {
        tar.entry({ name: path, type: "symlink", linkname: link, mode });
        continue;
      }
      const entry = tar.entry({ name: path, size, mode });
      for await (const chunk of createReadStream(join(folder, path)))
        if (!entry.write(chunk))
          await new Promise<void>((resolve) => entry.once("drain", () => resolve()));
      await new Promise<void>((resolve, reject) => {
        entry.once("error", reject);
        entry.end(() => resolve());
      });
    }
    tar.finalize();
  };
  fill().catch((error) => tar.destroy(error));
  return tar as unknown as Readable;
}

/** A commit of a mirror; nothing is checked out. */
export async function commitContext(
  mirror: string,
  sha: string,
  dockerfile: string,
): Promise<CommitContext> {
  const git = gitIn(mirror, null);
  const show = async (path: string) => await git(["show", `${sha}:${path}`]).catch(() => null);
  const text = await show(dockerfile);
  if (text === null) throw new ContextError(`There is no ${dockerfile} on the default branch.`);
  let rules: string | null = null;
  for (const name of ignoreFilesOf(dockerfile)) rules ??= await show(name);
  const wanted = filterOf(rules, dockerfile);
  const rows = (await git(["ls-tree", "-r", "-z", "--full-tree", sha])).split("\0").filter(Boolean);
  const chosen = rows.filter((row) => wanted(row.slice(row.indexOf("\t") + 1)));
  const hash = createHash("sha256").update(dockerfile).update(chosen.join("\0")).digest("hex");
  return { text, hash, tar: () => packCommit(mirror, sha, wanted) };
}

/** `git archive` with the unwanted left out on the way. */
function packCommit(mirror: string, sha: string, wanted: (path: string) => boolean): Readable {
  const tar = pack();
  const git = spawn("git", ["--git-dir", mirror, "archive", "--format=tar", sha], {
    env: gitEnvironment(null),
    stdio: ["ignore", "pipe", "pipe"],
  });
  const entries = extract();
  let bytes = 0;
  let problem = "";
  git.stderr.on("data", (chunk) => {
    problem += chunk;
  });
  const fail = (error: Error) => tar.destroy(error);
  entries.on("entry", (header, stream, next) => {
    bytes += header.size ?? 0;
    if (bytes > bytesMax)
      return fail(new ContextError(`The commit has more than ${bytesMax / 2 ** 30} GB.`));
    const goes = header.type !== "directory" && wanted(header.name);
    if (!goes) {
      stream.on("end", next).resume();
      return;
    }
    stream.pipe(tar.entry(header, next) as unknown as NodeJS.WritableStream);
  });
  entries.on("finish", () => tar.finalize());
  entries.on("error", fail);
  git.on("error", fail);
  git.on(
    "close",
    (code) => code !== 0 && fail(new GitError(`git archive: ${problem.slice(0, 500)}`)),
  );
  git.stdout.pipe(entries as unknown as NodeJS.WritableStream);
  tar.on("close", () => git.kill());
  return tar as unknown as Readable;
}
