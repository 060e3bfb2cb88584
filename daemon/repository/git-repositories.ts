import { createHash } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { trimoYmlPath } from "../../app/protocol/trimo-yml.ts";
import { makeGate, openGate } from "./gate.ts";
import { GitError, gitIn, isCorrupt } from "./git.ts";
import type {
  Drift,
  Fetched,
  FetchRequest,
  Gate,
  GateRequest,
  KeptCommits,
  Known,
  Repositories,
} from "./repositories.ts";

const trimoYmlBytesMax = 64 * 1024;
const conflictsMax = 50;
const mergeMsMax = 10_000;

/** Repositories as mirrors and gates below `data`, of the host at `remote` (an address or a folder). */
export class GitRepositories implements Repositories {
  readonly #data: string;
  readonly #remote: string;
  /** One fetch, or packing, at a time in a mirror: git's own locks would fail the second. */
  readonly #turns = new Map<string, Promise<unknown>>();
  /** The folder of each mirror that is not at its first place, because what was there is broken. */
  readonly #places = new Map<string, string>();
  /** Those that this process has made anew. */
  readonly #renewed = new Set<string>();
  /** The mirrors in which no lock of an earlier process is left. */
  readonly #unlocked = new Set<string>();
  /** What the last fetch of each mirror found, so that the next run need not ask git for it. */
  readonly #found = new Map<string, Known>();

  constructor(data: string, remote: string) {
    this.#data = data;
    this.#remote = remote;
  }

  async fetch(request: FetchRequest, signal: AbortSignal): Promise<Fetched> {
    try {
      return await this.#fetchInTurn(request, signal);
    } catch (error) {
      const isBroken = error instanceof GitError && isCorrupt(error.message);
      const first = this.#firstPlace(request.repository);
      // Once: if a new one is no better, it was not the mirror.
      if (!isBroken || signal.aborted || this.#renewed.has(first)) throw error;
      this.#renewed.add(first);
      // Gates of runs under way lean on what can still be read of the broken one.
      this.#places.set(first, nextPlace(this.#mirror(request.repository)));
      return await this.#fetchInTurn(request, signal);
    }
  }

  async #fetchInTurn(request: FetchRequest, signal: AbortSignal): Promise<Fetched> {
    const folder = this.#mirror(request.repository);
    const mine = this.#inTurn(folder, () => this.#fetchNow(folder, request, signal));
    // Another's fetch before it cannot be ended by this one's cancel, but need not be waited for.
    return await Promise.race([mine, stopped(signal)]);
  }

  #inTurn<T>(folder: string, work: () => Promise<T>): Promise<T> {
    const mine = (this.#turns.get(folder) ?? Promise.resolve()).then(work);
    // The next turn begins however this one ends; its caller hears of it.
    const quiet = mine.catch(() => {});
    this.#turns.set(folder, quiet);
    void quiet.finally(() => this.#turns.get(folder) === quiet && this.#turns.delete(folder));
    return mine;
  }

  async #fetchNow(
    folder: string,
    { repository, branch, token }: FetchRequest,
    signal: AbortSignal,
  ): Promise<Fetched> {
    if (signal.aborted) throw new GitError("stopped before the fetch", "final");
    const url = this.#url(repository);
    const git = gitIn(folder, token, signal);
    if (!existsSync(join(folder, "HEAD"))) {
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await git(["init", "--quiet", "--bare", folder]);
    }
    await this.#unlock(folder);
    const asked = git(["ls-remote", "--symref", url, "HEAD"]);
    // Awaited below; until then a failure must not end the process.
    asked.catch(() => {});
    await git([
      "fetch",
      "--quiet",
      "--no-tags",
      "--prune",
      "--no-write-fetch-head",
      url,
      ...refspecsOf(branch),
    ]);
    const [defaultSha, branchSha] = await Promise.all([
      resolve(git, "refs/trimo/default"),
      resolve(git, ownRef(branch)),
    ]);
    if (!defaultSha) throw new GitError("the repository has no commit yet", "final");
    const trimoYml = await readTrimoYml(git, defaultSha);
    this.#found.set(folder, { folder, defaultSha, trimoYml });
    const defaultBranch = /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(await asked)?.[1] ?? null;
    return { folder, defaultBranch, defaultSha, branchSha, trimoYml };
  }

  /** Removes what a killed git has left locked, once for each mirror: only this process works there. */
  async #unlock(folder: string) {
    if (this.#unlocked.has(folder)) return;
    const places = ["", "refs", "objects/info", "objects/pack"];
    for (const place of places) {
      // A mirror that was just made lacks some of these.
      const names = await readdir(join(folder, place), { recursive: place === "refs" }).catch(
        () => [],
      );
      for (const name of names.filter((one) => one.endsWith(".lock")))
        await rm(join(folder, place, name), { force: true });
    }
    this.#unlocked.add(folder);
  }

  async known(repository: string): Promise<Known | null> {
    const folder = this.#mirror(repository);
    const known = this.#found.get(folder);
    if (known || !existsSync(join(folder, "HEAD"))) return known ?? null;
    const git = gitIn(folder, null);
    const defaultSha = await resolve(git, "refs/trimo/default");
    if (!defaultSha) return null;
    return { folder, defaultSha, trimoYml: await readTrimoYml(git, defaultSha) };
  }

  async drift(
    { folder, branchSha, defaultSha }: Fetched,
    signal: AbortSignal,
  ): Promise<Drift | null> {
    if (!branchSha) return null;
    const git = gitIn(folder, null, AbortSignal.any([signal, AbortSignal.timeout(mergeMsMax)]));
    // A note, and no more: without it the run goes on.
    const counted = await git(["rev-list", "--count", `${branchSha}..${defaultSha}`]).catch(
      () => "0",
    );
    const behind = Number(counted);
    if (behind === 0) return null;
    const options = ["--write-tree", "--name-only", "--no-messages", "-z"];
    // An older git has no --write-tree, and histories may have nothing in common.
    const told = await git(["merge-tree", ...options, branchSha, defaultSha]).catch(() => null);
    if (told === null) return { behind, conflicts: null };
    const [, ...paths] = told.split("\0").filter(Boolean);
    return { behind, conflicts: paths.slice(0, conflictsMax).map((path) => path.slice(0, 500)) };
  }

  async makeGate(request: GateRequest, mirror: string, sha: string): Promise<Gate> {
    return await makeGate({ ...this.#named(request), mirror, sha });
  }

  openGate(request: GateRequest): Gate {
    return openGate(this.#named(request));
  }

  async pushKept(
    { repository, branch, path, beside }: KeptCommits,
    token: string,
    signal: AbortSignal,
  ) {
    if (!path.endsWith(".bundle"))
      return await pushBranch(
        this.openGate({ folder: path, repository, branch }),
        token,
        beside,
        signal,
      );
    const folder = `${path}.push`;
    const git = gitIn(folder, token, signal);
    try {
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true, mode: 0o700 });
      await git(["init", "--quiet", "--bare", folder]);
      const mirror = this.#mirror(repository);
      if (existsSync(join(mirror, "HEAD")))
        await writeFile(join(folder, "objects/info/alternates"), `${join(mirror, "objects")}\n`);
      // What the bundle leans on; GitHub has it, the mirror may be gone.
      const url = this.#url(repository);
      await git([
        "fetch",
        "--quiet",
        "--no-tags",
        "--no-write-fetch-head",
        url,
        ...refspecsOf(branch),
      ]);
      const ref = `refs/heads/${branch}`;
      await git(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", path, `${ref}:${ref}`]);
      return await pushBranch(openGate({ folder, branch, url }), token, beside, signal);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async tidy(now: number, signal: AbortSignal) {
    const root = join(this.#data, "mirrors");
    const owners = await readdir(root).catch(() => []);
    for (const owner of owners)
      for (const name of await readdir(join(root, owner))) {
        const folder = join(root, owner, name);
        if (signal.aborted) return;
        if (existsSync(nextPlace(folder))) await rm(folder, { recursive: true, force: true });
        else if (await isUntidy(folder, now)) await this.#pack(folder, now, signal);
      }
  }

  async #pack(folder: string, now: number, signal: AbortSignal) {
    const git = gitIn(folder, null, signal);
    await this.#inTurn(folder, () => git(["gc", "--quiet", "--prune=now"])).catch((error) => {
      // A broken one is made anew by its next fetch.
      if (!(error instanceof GitError)) throw error;
    });
    await writeFile(join(folder, tidiedName), String(now));
  }

  #named({ folder, repository, branch }: GateRequest) {
    return { folder, branch, url: this.#url(repository) };
  }

  #url(repository: string): string {
    return `${this.#remote}/${repository}.git`;
  }

  #firstPlace(repository: string): string {
    return join(this.#data, "mirrors", `${repository.toLowerCase()}.git`);
  }

  /** The newest of the places that a mirror has had. */
  #mirror(repository: string): string {
    const first = this.#firstPlace(repository);
    const known = this.#places.get(first);
    if (known) return known;
    const beside = existsSync(dirname(first))
      ? readdirSync(dirname(first)).filter((name) => name.startsWith(`${basename(first)}~`))
      : [];
    const newest = Math.max(1, ...beside.map((name) => Number(name.split("~")[1])));
    const place = newest === 1 ? first : `${first}~${newest}`;
    this.#places.set(first, place);
    return place;
  }
}

/** When a mirror was packed last, in milliseconds since 1970. */
const tidiedName = "trimo-tidied";
const untidyMs = 7 * 24 * 3_600_000;

/** Whether a mirror was not packed for a week; one that is new is not. */
async function isUntidy(folder: string, now: number): Promise<boolean> {
  const path = join(folder, tidiedName);
  const at = await readFile(path, "utf8").catch(() => null);
  if (at === null) await writeFile(path, String(now));
  return at !== null && now - Number(at) >= untidyMs;
}

/** Beside a mirror: `app.git`, `app.git~2`, `app.git~3`. No repository has such a name. */
function nextPlace(folder: string): string {
  const [, first = folder, number = "1"] = /^(.*\.git)(?:~(\d+))?$/.exec(folder) ?? [];
  return `${first}~${Number(number) + 1}`;
}

/** Where a mirror has a branch: in a folder of its own, so that `fix` of before does not keep `fix/login` out. */
const ownRef = (branch: string): string =>
  `refs/trimo/branches/${createHash("sha256").update(branch).digest("hex").slice(0, 16)}/x`;

/** What a run leans on; the star lets a branch that does not exist yet be no error. */
const refspecsOf = (branch: string): string[] => [
  "+HEAD:refs/trimo/default",
  `+refs/heads/${branch}*:${ownRef(branch)}*`,
];

const pushBranch = async (gate: Gate, token: string, beside: string, signal: AbortSignal) =>
  await gate.push(await gate.head(), token, { branch: beside, signal });

function stopped(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = () => reject(new GitError("stopped while fetching", "final"));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
}

async function readTrimoYml(
  git: (args: string[]) => Promise<string>,
  sha: string,
): Promise<string | null> {
  const text = await git(["cat-file", "blob", `${sha}:${trimoYmlPath}`]).catch(() => null);
  if (text && text.length > trimoYmlBytesMax)
    throw new GitError(`${trimoYmlPath} is larger than ${trimoYmlBytesMax} bytes`, "final");
  return text;
}

async function resolve(
  git: (args: string[]) => Promise<string>,
  ref: string,
): Promise<string | null> {
  const sha = await git(["rev-parse", "--quiet", "--verify", ref]).catch(() => "");
  return sha.trim() || null;
}
