import { execFile, spawn } from "node:child_process";
import { mkdir } from "node:fs/promises";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import { promisify } from "node:util";

const run = promisify(execFile);
const noConfig = { GIT_CONFIG_NOSYSTEM: "1", GIT_CONFIG_GLOBAL: "/dev/null", LC_ALL: "C" };

/** GitHub's git: real bare repositories, and the questions that its API answers from them. */
export class Repositories {
  #root: string;
  constructor(root: string) {
    this.#root = root;
  }

  folder(fullName: string): string {
    return join(this.#root, `${fullName}.git`);
  }

  /** A bare clone of `source` (its current branch becomes the default one, `main`), or an empty one. */
  async add(fullName: string, source: string | null, defaultBranch: string) {
    const folder = this.folder(fullName);
    await mkdir(join(folder, ".."), { recursive: true });
    await run("git", ["init", "--quiet", "--bare", `--initial-branch=${defaultBranch}`, folder]);
    // Somebody may try the demo from a shallow clone.
    await this.git(fullName, ["config", "receive.shallowUpdate", "true"]);
    if (source)
      await run("git", [
        "-C",
        source,
        "push",
        "--quiet",
        folder,
        `HEAD:refs/heads/${defaultBranch}`,
      ]);
    await this.git(fullName, ["config", "http.receivepack", "true"]);
    // As GitHub does: any commit that exists may be fetched by its id.
    await this.git(fullName, ["config", "uploadpack.allowReachableSHA1InWant", "true"]);
  }

  async git(fullName: string, args: string[], env: Record<string, string> = {}): Promise<string> {
    const options = { env: { ...process.env, ...noConfig, ...env }, maxBuffer: 64 * 2 ** 20 };
    const { stdout } = await run("git", ["-C", this.folder(fullName), ...args], options);
    return stdout.trim();
  }

  async resolve(fullName: string, ref: string): Promise<string | null> {
    return await this.git(fullName, ["rev-parse", "--quiet", "--verify", `${ref}^{commit}`]).catch(
      () => null,
    );
  }

  async branches(fullName: string): Promise<Record<string, string>> {
    const text = await this.git(fullName, [
      "for-each-ref",
      "--format=%(refname:short) %(objectname)",
      "refs/heads",
    ]);
    return Object.fromEntries(
      text
        .split("\n")
        .filter(Boolean)
        .map((line) => line.split(" ")),
    );
  }

  async commit(fullName: string, sha: string) {
    const format = "%T%x00%P%x00%an%x00%ae%x00%aI%x00%B";
    const text = await this.git(fullName, ["show", "--no-patch", `--format=${format}`, sha]);
    const [tree = "", parents = "", name = "", email = "", date = "", message = ""] =
      text.split("\0");
    return { tree, parents: parents.split(" ").filter(Boolean), name, email, date, message };
  }

  async write(
    fullName: string,
    commit: { message: string; tree: string; parents: string[]; author: Person; committer: Person },
  ): Promise<string> {
    const parents = commit.parents.flatMap((parent) => ["-p", parent]);
    const env = {
      GIT_AUTHOR_NAME: commit.author.name,
      GIT_AUTHOR_EMAIL: commit.author.email,
      GIT_AUTHOR_DATE: commit.author.date,
      GIT_COMMITTER_NAME: commit.committer.name,
      GIT_COMMITTER_EMAIL: commit.committer.email,
      GIT_COMMITTER_DATE: commit.committer.date,
    };
    const message = ["-m", commit.message];
    return await this.git(fullName, ["commit-tree", commit.tree, ...parents, ...message], env);
  }

  /** Commits a file straight to a branch, as a person in GitHub's editor would. */
  async commitFile(fullName: string, branch: string, path: string, text: string, message: string) {
    const index = join(this.folder(fullName), `index.${process.hrtime.bigint()}`);
    const env = { GIT_INDEX_FILE: index };
    const parent = await this.resolve(fullName, `refs/heads/${branch}`);
    if (parent) await this.git(fullName, ["read-tree", parent], env);
    const blob = await this.#hash(fullName, text);
    await this.git(
      fullName,
      ["update-index", "--add", "--cacheinfo", `100644,${blob},${path}`],
      env,
    );
    const tree = await this.git(fullName, ["write-tree"], env);
    const person = { name: "Ana", email: "ana@example.com", date: new Date().toISOString() };
    const parents = parent ? [parent] : [];
    const sha = await this.write(fullName, {
      message,
      tree,
      parents,
      author: person,
      committer: person,
    });
    await this.git(fullName, ["update-ref", `refs/heads/${branch}`, sha]);
    return sha;
  }

  async #hash(fullName: string, text: string): Promise<string> {
    const child = spawn("git", ["-C", this.folder(fullName), "hash-object", "-w", "--stdin"]);
    child.stdin.end(text);
    let out = "";
    for await (const chunk of child.stdout) out += chunk;
    return out.trim();
  }

  /** `git http-backend`, after the caller has checked the token. */
  serve(fullName: string, path: string, request: IncomingMessage, response: ServerResponse) {
    const url = new URL(request.url ?? "/", "http://github");
    const child = spawn("git", ["http-backend"], {
      stdio: ["pipe", "pipe", "inherit"],
      env: {
        PATH: process.env.PATH,
        ...noConfig,
        GIT_PROJECT_ROOT: this.folder(fullName),
        GIT_HTTP_EXPORT_ALL: "1",
        PATH_INFO: path,
        REQUEST_METHOD: request.method,
        QUERY_STRING: url.search.slice(1),
        CONTENT_TYPE: request.headers["content-type"] ?? "",
        HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "",
        GIT_PROTOCOL: String(request.headers["git-protocol"] ?? ""),
        REMOTE_USER: "github",
      },
    });
    request.pipe(child.stdin);
    child.stdin.on("error", () => {});
    let head = Buffer.alloc(0);
    let begun = false;
    child.stdout.on("data", (chunk: Buffer) => {
      if (begun) return;
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf("\r\n\r\n");
      if (end < 0) return;
      begun = true;
      const lines = head.subarray(0, end).toString("latin1").split("\r\n");
      const pairs = lines.map((line) => line.split(": ") as [string, string]);
      const status = pairs.find(([name]) => name === "Status")?.[1];
      const headers = Object.fromEntries(pairs.filter(([name]) => name !== "Status"));
      response.writeHead(status ? Number.parseInt(status, 10) : 200, headers);
      response.write(head.subarray(end + 4));
      child.stdout.pipe(response);
    });
    child.stdout.on("end", () => response.writableEnded || response.end());
  }
}

export type Person = { name: string; email: string; date: string };
