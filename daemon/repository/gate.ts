import { type ChildProcess, spawn } from "node:child_process";
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { dirname, join } from "node:path";
import { GitError, gitIn } from "./git.ts";
import type { Author, Gate, PushResult } from "./repositories.ts";

/** What one push may bring, in bytes; a blob over GitHub's own 100 MB could not go further. */
const pushBytesMax = 512 * 2 ** 20;
const blobBytesMax = 100 * 2 ** 20;
/** All pushes of one run together, and all its snapshots. */
const runBytesMax = 2 * 2 ** 30;
/** git processes of one gate at once; what comes on top is asked to come again. */
const backendsMax = 4;
/** Commits of one push that are told by name. */
const toldMax = 300;
/** One clone, fetch or push of the container. */
const requestMsMax = 10 * 60_000;
/** After so many snapshots their packs become one, and what the last one has not goes. */
const snapshotsPerPack = 50;
/** Hidden from the container, as all below refs/trimo, but from what pushes a snapshot. */
const snapshotRef = "refs/trimo/snapshot";

/** Where a gate lies, which branch it serves, and where that goes on to. */
type Named = { folder: string; branch: string; url: string };

/** Makes a gate by hand, without a git process: it is on the way to every run's first instruction. */
export async function makeGate({
  mirror,
  sha,
  ...named
}: Named & { mirror: string; sha: string }): Promise<Gate> {
  const { folder, branch } = named;
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, "objects/info"), { recursive: true, mode: 0o700 });
  await mkdir(join(folder, "objects/pack"));
  await mkdir(join(folder, "refs/heads"), { recursive: true });
  await mkdir(join(folder, "hooks"));
  await writeFile(join(folder, "objects/info/alternates"), `${join(mirror, "objects")}\n`);
  await writeFile(join(folder, "packed-refs"), `${sha} refs/heads/${branch}\n`);
  await writeFile(join(folder, "config"), settings(folder));
  const hook = join(folder, "hooks/pre-receive");
  await writeFile(hook, preReceive(branch));
  await chmod(hook, 0o700);
  // Last: a folder with a HEAD is a finished gate.
  await writeFile(join(folder, "HEAD"), `ref: refs/heads/${branch}\n`);
  return openGate(named);
}

/** Opens a gate that was made before. */
export function openGate(named: Named): Gate {
  return new GitGate(named);
}

/** Its hook and settings are the law: forward, one branch, nothing else. */
class GitGate implements Gate {
  readonly #folder: string;
  readonly #branch: string;
  readonly #url: string;
  /** What its pushes and snapshots have brought, in bytes, and the git processes at work for it now. */
  readonly #bytes = { branch: 0, snapshot: 0 };
  #backends = 0;
  #snapshots = 0;

  constructor({ folder, branch, url }: Named) {
    this.#folder = folder;
    this.#branch = branch;
    this.#url = url;
  }

  async head(): Promise<string> {
    const loose = join(this.#folder, "refs/heads", this.#branch);
    const text = await readFile(loose, "utf8").catch(() => null);
    if (text) return text.trim();
    const packed = await readFile(join(this.#folder, "packed-refs"), "utf8");
    const line = packed.split("\n").find((row) => row.endsWith(` refs/heads/${this.#branch}`));
    if (!line) throw new GitError(`the gate has lost its branch ${this.#branch}`);
    return line.slice(0, 40);
  }

  async commitsBetween(from: string, to: string): Promise<{ sha: string; subject: string }[]> {
    const text = await gitIn(
      this.#folder,
      null,
    )([
      "log",
      "--first-parent",
      `--max-count=${toldMax}`,
      "--reverse",
      "--format=%H %s",
      `${from}..${to}`,
    ]);
    return text
      .split("\n")
      .filter(Boolean)
      .map((line) => ({ sha: line.slice(0, 40), subject: line.slice(41, 41 + 200) }));
  }

  async push(
    sha: string,
    token: string,
    { branch = this.#branch, signal }: { branch?: string | undefined; signal?: AbortSignal } = {},
  ): Promise<PushResult> {
    try {
      await gitIn(
        this.#folder,
        token,
        signal,
      )(["push", "--porcelain", "--no-verify", this.#url, `${sha}:refs/heads/${branch}`]);
      return "pushed";
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      // GitHub says some of it as if it had refused.
      const isAway = error instanceof GitError && error.kind === "away";
      if (isAway || /\(cannot lock ref/.test(text)) return { unreachable: text };
      if (/\(non-fast-forward\)|\(fetch first\)/.test(text)) return "moved";
      if (
        /\[remote rejected\]|pre-receive hook declined|protected branch|HTTP 403|error: 403/.test(
          text,
        )
      )
        return { refused: text };
      return { unreachable: text };
    }
  }

  async remoteHead(token: string): Promise<string | null> {
    const text = await gitIn(
      this.#folder,
      token,
    )(["ls-remote", this.#url, `refs/heads/${this.#branch}`]);
    return text.slice(0, 40) || null;
  }

  async remoteContains(sha: string, token: string): Promise<boolean> {
    const git = gitIn(this.#folder, token);
    // Hidden from the container, as all below refs/trimo.
    const theirs = "refs/trimo/remote";
    await git([
      "fetch",
      "--quiet",
      "--no-tags",
      this.#url,
      `+refs/heads/${this.#branch}:${theirs}`,
    ]);
    return await git(["merge-base", "--is-ancestor", sha, theirs]).then(
      () => true,
      () => false,
    );
  }

  async bundle(path: string, base: string) {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const fresh = `${path}.new`;
    const range = [`refs/heads/${this.#branch}`, `^${base}`];
    await gitIn(this.#folder, null)(["bundle", "create", "--quiet", fresh, ...range]);
    await rename(fresh, path);
  }

  async recoverSnapshot({ message, name, email }: Author): Promise<number | null> {
    const git = gitIn(this.#folder, null);
    const told = await git([
      "for-each-ref",
      "--format=%(parent) %(committerdate:unix)",
      snapshotRef,
    ]);
    const [parent = "", seconds = ""] = told.trim().split(" ");
    if (!seconds) return null;
    const head = await this.head();
    const tree = await this.#treeWithSnapshot(parent, head);
    if (tree === (await git(["rev-parse", `${head}^{tree}`])).trim()) return null;
    const by = ["-c", `user.name=${name}`, "-c", `user.email=${email}`];
    const commit = await git([...by, "commit-tree", tree, "-p", head, "-m", message]);
    await git(["update-ref", `refs/heads/${this.#branch}`, commit.trim(), head]);
    return Number(seconds) * 1_000;
  }

  /** The snapshot's tree on top of `head`; a path that was committed after it is as it was committed. */
  async #treeWithSnapshot(parent: string, head: string): Promise<string> {
    const git = gitIn(this.#folder, null);
    if (parent === head) return (await git(["rev-parse", `${snapshotRef}^{tree}`])).trim();
    await git(["read-tree", "--empty"]);
    await git(["read-tree", "-i", "-m", "--aggressive", parent, head, snapshotRef]);
    const unmerged = (await git(["ls-files", "--unmerged", "-z"])).split("\0").filter(Boolean);
    const pathOf = (row: string) => row.slice(row.indexOf("\t") + 1);
    for (const path of new Set(unmerged.map(pathOf)))
      await git(["--work-tree=.", "update-index", "--force-remove", "--", path]);
    for (const row of unmerged) {
      const [mode, sha, stage] = row.slice(0, row.indexOf("\t")).split(" ");
      if (stage !== "2") continue;
      const entry = `${mode},${sha},${pathOf(row)}`;
      await git(["update-index", "--add", "--replace", "--cacheinfo", entry]);
    }
    return (await git(["write-tree"])).trim();
  }

  /**
   * Now and then, so that the gate grows with the work and not with its snapshots. Meanwhile others are asked to
   * come again: what they are just bringing must not go.
   */
  #packSnapshots() {
    this.#snapshots += 1;
    if (this.#snapshots < snapshotsPerPack || this.#backends > 0) return;
    this.#snapshots = 0;
    this.#backends = backendsMax;
    const done = () => {
      this.#backends = 0;
    };
    // What cannot be packed now is packed after the next ones.
    gitIn(this.#folder, null)(["repack", "-a", "-d", "-l", "-q"]).then(done, done);
  }

  /** These four requests of this one repository, two of them for a snapshot of it, and none else. */
  serve(request: IncomingMessage, response: ServerResponse, pushed: () => void) {
    const url = new URL(request.url ?? "/", "http://gateway");
    const [, name, path = ""] = /^\/(repository|snapshot)\.git(\/.*)$/.exec(url.pathname) ?? [];
    const isSnapshot = name === "snapshot";
    const service = url.searchParams.get("service");
    const services = isSnapshot ? ["git-receive-pack"] : ["git-upload-pack", "git-receive-pack"];
    const asks =
      request.method === "GET" && path === "/info/refs" && services.includes(service ?? "");
    const packs = request.method === "POST" && services.includes(path.slice(1));
    if (!asks && !packs) {
      response.writeHead(404).end("The gate serves clone, fetch and push of its one repository.\n");
      return;
    }
    const budget = isSnapshot ? "snapshot" : "branch";
    const hasRoom = this.#bytes[budget] <= runBytesMax;
    if (this.#backends >= backendsMax || !hasRoom) {
      response.writeHead(hasRoom ? 503 : 413, { "retry-after": "1" });
      response.end(hasRoom ? "The gate is busy.\n" : "This run has pushed more than a run may.\n");
      return;
    }
    this.#backends += 1;
    const child = spawn("git", ["http-backend"], {
      stdio: ["pipe", "pipe", "ignore"],
      timeout: requestMsMax,
      // With those that it starts it is a group: they end together.
      detached: true,
      env: {
        ...backendEnvironment(this.#folder, request, path, asks ? `service=${service}` : ""),
        ...(isSnapshot ? snapshotEnvironment : {}),
      },
    });
    let over = false;
    const end = () => {
      if (over) return;
      over = true;
      this.#backends -= 1;
      endGroup(child);
      if (path !== "/git-receive-pack") return;
      if (isSnapshot) this.#packSnapshots();
      else pushed();
    };
    child.on("error", () => {
      end();
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
    child.on("exit", end);
    // The process could not be made at all: then there are no pipes, and "error" says so.
    if (!child.stdin || !child.stdout) return;
    // A pipe whose reader has ended: its exit tells why.
    child.stdin.on("error", () => {});
    response.on("close", () => endGroup(child));
    request.on("data", (chunk: Buffer) => {
      this.#bytes[budget] += chunk.length;
    });
    request.pipe(child.stdin);
    copyCgi(child.stdout, response);
  }
}

/** Ends what is left of a process's group; nothing to do when that has ended. */
function endGroup({ pid }: ChildProcess) {
  try {
    if (pid) process.kill(-pid, "SIGTERM");
  } catch {
    // All of it has ended by itself.
  }
}

function settings(folder: string): string {
  return `[core]
	repositoryformatversion = 0
	bare = true
	hooksPath = ${join(folder, "hooks")}
	alternateRefsCommand = true
[pack]
	threads = 1
[gc]
	auto = 0
[receive]
	denyNonFastForwards = true
	denyDeletes = true
	fsckObjects = true
	maxInputSize = ${pushBytesMax}
	unpackLimit = 1
	autogc = false
[transfer]
	hideRefs = refs/trimo
[http]
	receivepack = true
	uploadpack = true
	getanyfile = false
[uploadpack]
	allowFilter = false
`;
}

function preReceive(branch: string): string {
  return `#!/bin/sh
refuse() { echo "trimo: $1" >&2; exit 1; }
zero=0000000000000000000000000000000000000000
lines=0
while read -r old new ref; do
  lines=$((lines + 1))
  [ "$new" != "$zero" ] || refuse "the branch cannot be deleted."
  if [ -n "$TRIMO_SNAPSHOT" ]; then
    [ "$ref" = "${snapshotRef}" ] || refuse "only a snapshot can be pushed here, not $ref."
    old=$(git rev-parse --verify --quiet "$new^") || refuse "a snapshot has a parent."
    git merge-base --is-ancestor "$old" "refs/heads/${branch}" || refuse "a snapshot stands on the branch ${branch}, as it was pushed."
  else
    [ "$ref" = "refs/heads/${branch}" ] || refuse "only the branch ${branch} can be pushed, not $ref. Commit to it instead."
    [ "$old" != "$zero" ] || refuse "the branch is missing here; this run cannot make it anew."
    git merge-base --is-ancestor "$old" "$new" || refuse "history only goes forward here. Commit on top of $old (git revert puts things right)."
  fi
  # A commit that did not come with this push is somebody else's, taken from the mirror by its id.
  if git rev-list "$new" --not "$old" | env -u GIT_ALTERNATE_OBJECT_DIRECTORIES git cat-file --batch-check='%(objecttype)' | grep -q missing; then
    refuse "a commit in this history belongs to another branch; commit on top of $old instead."
  fi
  git rev-list --objects "$new" --not "$old" | cut -d' ' -f1 |
    git cat-file --batch-check='%(objecttype) %(objectsize) %(objectname)' |
    while read -r type size name; do
      if [ "$type" = blob ] && [ "$size" -gt ${blobBytesMax} ]; then echo "$name $size"; fi
    done | { if read -r name size; then refuse "file $name has $size bytes; GitHub takes at most ${blobBytesMax}."; fi; } || exit 1
done
[ "$lines" = 1 ] || refuse "push one branch at a time."
`;
}

/** A snapshot replaces the one before, however small it is. */
const snapshotEnvironment = {
  TRIMO_SNAPSHOT: "1",
  GIT_CONFIG_COUNT: "2",
  GIT_CONFIG_KEY_0: "transfer.hideRefs",
  GIT_CONFIG_VALUE_0: `!${snapshotRef}`,
  GIT_CONFIG_KEY_1: "receive.denyNonFastForwards",
  GIT_CONFIG_VALUE_1: "false",
};

function backendEnvironment(folder: string, request: IncomingMessage, path: string, query: string) {
  return {
    PATH: process.env.PATH,
    HOME: folder,
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_CONFIG_GLOBAL: "/dev/null",
    GIT_PROJECT_ROOT: folder,
    GIT_HTTP_EXPORT_ALL: "1",
    PATH_INFO: path,
    REQUEST_METHOD: request.method,
    QUERY_STRING: query,
    CONTENT_TYPE: request.headers["content-type"] ?? "",
    HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "",
    REMOTE_USER: "agent",
    REMOTE_ADDR: "127.0.0.1",
  };
}

/** Copies a CGI answer to a response: headers, an empty line, the body (RFC 3875). */
export function copyCgi(output: NodeJS.ReadableStream, response: ServerResponse) {
  let head = Buffer.alloc(0);
  let parsed = false;
  output.on("data", (chunk: Buffer) => {
    if (parsed) return;
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    parsed = true;
    let status = 200;
    for (const line of head.subarray(0, end).toString("latin1").split("\r\n")) {
      const colon = line.indexOf(":");
      const name = line.slice(0, colon).toLowerCase();
      const value = line.slice(colon + 1).trim();
      if (name === "status") status = Number.parseInt(value, 10);
      else response.setHeader(name, value);
    }
    response.writeHead(status);
    response.write(head.subarray(end + 4));
    output.pipe(response);
  });
  output.on("end", () => {
    if (!parsed && !response.headersSent) response.writeHead(500);
    if (!response.writableEnded) response.end();
  });
}
