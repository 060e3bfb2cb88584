import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { trimoYmlPath } from "../../app/protocol/trimo-yml.ts";
import { GitError, gitIn } from "./git.ts";

/** What a fetch found. */
export type Fetched = {
  /** The mirror's folder, a bare repository. */
  folder: string;
  /** The default branch, which is never a run's; null: the remote does not say. */
  defaultBranch: string | null;
  /** The default branch's commit, as the remote's HEAD says it; never as the app does. */
  defaultSha: string;
  /** The pipeline's branch; null: it does not exist yet. */
  branchSha: string | null;
  /** `.github/trimo.yml` at the default branch; null: there is none. */
  trimoYml: string | null;
};

const trimoYmlBytesMax = 64 * 1024;
/** One fetch at a time in a mirror: git's own locks would fail the second. */
const turns = new Map<string, Promise<unknown>>();

/** Brings the mirror of `owner/name` up to date for one branch. */
export async function fetchMirror(
  data: string,
  remote: string,
  repository: string,
  branch: string,
  token: string,
  signal: AbortSignal,
): Promise<Fetched> {
  const folder = mirrorFolder(data, repository);
  const before = turns.get(folder) ?? Promise.resolve();
  const url = `${remote}/${repository}.git`;
  const mine = before.then(() => fetchNow(folder, url, branch, token, signal));
  // The next fetch begins however this one ends; its caller hears of it.
  const quiet = mine.catch(() => {});
  turns.set(folder, quiet);
  void quiet.finally(() => turns.get(folder) === quiet && turns.delete(folder));
  // Another's fetch before it cannot be ended by this one's cancel, but need not be waited for.
  return await Promise.race([mine, stopped(signal)]);
}

function stopped(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = () => reject(new GitError("stopped while fetching"));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
}

type Known = Pick<Fetched, "folder" | "defaultSha" | "trimoYml">;
/** What the last fetch of each mirror found, so that the next run need not ask git for it. */
const lastFound = new Map<string, Known>();

/** What the last fetch found, perhaps by an earlier daemon; null when there was none. */
export async function readMirror(data: string, repository: string): Promise<Known | null> {
  const folder = mirrorFolder(data, repository);
  const known = lastFound.get(folder);
  if (known || !existsSync(join(folder, "HEAD"))) return known ?? null;
  const git = gitIn(folder, null);
  const defaultSha = await resolve(git, "refs/trimo/default");
  if (!defaultSha) return null;
  return { folder, defaultSha, trimoYml: await readTrimoYml(git, defaultSha) };
}

function mirrorFolder(data: string, repository: string): string {
  return join(data, "mirrors", `${repository.toLowerCase()}.git`);
}

async function fetchNow(
  folder: string,
  url: string,
  branch: string,
  token: string,
  signal: AbortSignal,
): Promise<Fetched> {
  if (signal.aborted) throw new GitError("stopped before the fetch");
  const git = gitIn(folder, token, signal);
  if (!existsSync(join(folder, "HEAD"))) {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await git(["init", "--quiet", "--bare", folder]);
  }
  // The star lets a branch that does not exist yet be no error.
  const wanted = ["+HEAD:refs/trimo/default", `+refs/heads/${branch}*:refs/heads/${branch}*`];
  const asked = git(["ls-remote", "--symref", url, "HEAD"]);
  // Awaited below; until then a failure must not end the process.
  asked.catch(() => {});
  await git(["fetch", "--quiet", "--no-tags", "--prune", "--no-write-fetch-head", url, ...wanted]);
  const [defaultSha, branchSha] = await Promise.all([
    resolve(git, "refs/trimo/default"),
    resolve(git, `refs/heads/${branch}`),
  ]);
  if (!defaultSha) throw new GitError("the repository has no commit yet");
  const trimoYml = await readTrimoYml(git, defaultSha);
  lastFound.set(folder, { folder, defaultSha, trimoYml });
  const defaultBranch = /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(await asked)?.[1] ?? null;
  return { folder, defaultBranch, defaultSha, branchSha, trimoYml };
}

/** What the default branch has and the run's branch has not; asked of git, nothing is merged. */
export type Drift = { behind: number; conflicts: string[] | null };

const conflictsMax = 50;
const mergeMsMax = 10_000;

/** Null where the branch has all of the default branch. */
export async function readDrift(
  { folder, branchSha, defaultSha }: Fetched,
  signal: AbortSignal,
): Promise<Drift | null> {
  if (!branchSha) return null;
  const git = gitIn(folder, null, AbortSignal.any([signal, AbortSignal.timeout(mergeMsMax)]));
  // A finding, and no more: without it the run goes on.
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

/** The drift as a finding for the agent. */
export function driftText({ behind, conflicts }: Drift, base: string): string {
  const more = `\`${base}\` has ${behind} commit${behind === 1 ? "" : "s"} that this branch has not. Nothing was merged.`;
  if (conflicts === null || conflicts.length === 0) return more;
  const list = conflicts.map((path) => `- ${path}`).join("\n");
  return `${more} Merging it would leave conflicts in:\n\n${list}`;
}

async function readTrimoYml(
  git: (args: string[]) => Promise<string>,
  sha: string,
): Promise<string | null> {
  const text = await git(["cat-file", "blob", `${sha}:${trimoYmlPath}`]).catch(() => null);
  if (text && text.length > trimoYmlBytesMax)
    throw new GitError(`${trimoYmlPath} is larger than ${trimoYmlBytesMax} bytes`);
  return text;
}

async function resolve(
  git: (args: string[]) => Promise<string>,
  ref: string,
): Promise<string | null> {
  const sha = await git(["rev-parse", "--quiet", "--verify", ref]).catch(() => "");
  return sha.trim() || null;
}
