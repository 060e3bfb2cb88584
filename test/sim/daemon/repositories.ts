import type { IncomingMessage, ServerResponse } from "node:http";
import { basename, join } from "node:path";
import { GitError } from "../../../daemon/repository/git.ts";
import type {
  Fetched,
  Gate,
  GateRequest,
  PushResult,
  Repositories,
} from "../../../daemon/repository/repositories.ts";
import type { Faults } from "../faults.ts";
import type { GitHubState } from "../github-state.ts";
import { between, type Process, type World } from "../world.ts";
import type { MemoryDisk } from "./disk.ts";
import type { Work } from "./work.ts";

// Git as a model: commits are a graph, a gate is a file with its branch's commit, a bundle one with the last.

const gitMs = { least: 5, most: 80 };
const wayMs = { least: 50, most: 1_500 };

type Parts = {
  world: World;
  faults: Faults;
  github: GitHubState;
  work: Work;
  disk: MemoryDisk;
  process: Process;
  pushes: (of: { run: string; attempt: number }) => Promise<void>;
  /** The repository was fetched once on this machine. */
  mirrored: Set<string>;
};

export function createRepositories(parts: Parts): Repositories {
  const { github, process, mirrored } = parts;
  const known = () => ({
    folder: "/mirror",
    defaultSha: github.branches.get("main") ?? "",
    trimoYml: null,
  });
  return {
    fetch: process.guard(async ({ repository, branch }): Promise<Fetched> => {
      await overTheWay(parts);
      const branchSha = github.branches.get(branch) ?? null;
      await overTheWay(parts);
      mirrored.add(repository);
      return { ...known(), defaultBranch: "main", branchSha };
    }),
    known: process.guard(async (repository) => (mirrored.has(repository) ? known() : null)),
    drift: process.guard(async () => null),
    makeGate: process.guard(async (request, _mirror, sha) => {
      await local(parts);
      parts.disk.write(headOf(request.folder), sha);
      return gateAt(parts, request);
    }),
    openGate: (request) => gateAt(parts, request),
    tidy: async () => {},
    pushKept: process.guard(async ({ path, beside }) => {
      const file = parts.disk.files.get(headFile(path));
      return await pushTo(parts, file?.text ?? "", beside);
    }),
  };
}

/** The file that has the last commit of a bundle, or of a gate that is kept whole. */
export const headFile = (path: string): string => (path.endsWith(".git") ? headOf(path) : path);
const headOf = (folder: string) => join(folder, "HEAD");

async function local({ process: { clock, pause } }: Parts) {
  await pause(between(clock.chance, gitMs.least, gitMs.most));
}

/** Half of a request's way to GitHub or back. */
async function overTheWay({ world, faults, process: { clock, pause } }: Parts) {
  await pause(between(clock.chance, wayMs.least, wayMs.most) / 2);
  if (world.now < faults.awayUntil) throw new GitError("The requested URL returned error: 503");
}

/** Forward only. */
async function pushTo(parts: Parts, sha: string, branch: string): Promise<PushResult> {
  const { github, work, world } = parts;
  try {
    await overTheWay(parts);
    const now = github.branches.get(branch);
    if (now !== undefined && !work.contains(sha, now)) return "moved";
    github.branches.set(branch, sha);
    world.say("git pushes", sha.slice(-3), "to", branch);
    await overTheWay(parts);
    return "pushed";
  } catch (error) {
    return { unreachable: String(error) };
  }
}

function gateAt(parts: Parts, { folder, branch }: GateRequest): Gate {
  const { github, work, disk, process } = parts;
  const head = () => disk.files.get(headOf(folder))?.text ?? "";
  const { guard } = process;
  return {
    head: guard(async () => {
      await local(parts);
      if (!head()) throw new GitError("not a git repository", "final");
      return head();
    }),
    commitsBetween: guard(async (from: string, to: string) => {
      await local(parts);
      const all = [...work.history(to)];
      const at = all.indexOf(from);
      const some = at < 0 ? all : all.slice(0, at);
      return some.reverse().map((sha) => ({ sha, subject: "a commit" }));
    }),
    push: guard(async (sha: string, _token, how = {}) => {
      await parts.pushes(ownerOf(folder));
      return await pushTo(parts, sha, how.branch ?? branch);
    }),
    remoteHead: guard(async () => {
      await overTheWay(parts);
      return github.branches.get(branch) ?? null;
    }),
    remoteContains: guard(async (sha: string) => {
      await overTheWay(parts);
      return work.contains(github.branches.get(branch), sha);
    }),
    bundle: guard(async (path: string) => {
      await local(parts);
      disk.write(path, head());
    }),
    recoverSnapshot: guard(async () => null),
    serve: (request, response, pushed) => void serve(request, response, pushed),
  };

  async function serve(request: IncomingMessage, response: ServerResponse, pushed: () => void) {
    let text = "";
    for await (const chunk of request) text += chunk;
    if (!process.alive) return;
    parts.world.touch();
    const { head: wanted } = JSON.parse(text || "{}") as { head?: string };
    if (wanted) {
      if (!work.contains(wanted, head())) return void response.writeHead(409).end();
      try {
        disk.write(headOf(folder), wanted);
      } catch {
        return void response.writeHead(500).end();
      }
      pushed();
    }
    response.writeHead(200).end(head());
  }
}

/** The run and attempt that a gate's folder belongs to. */
function ownerOf(gateFolder: string): { run: string; attempt: number } {
  const [run = "", attempt = ""] = basename(gateFolder.replace(/\/gate\.git$/, "")).split("-");
  return { run, attempt: Number(attempt) };
}
