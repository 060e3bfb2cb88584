import { createHash } from "node:crypto";
import type { GitHub, Probot } from "../../app/github/app.ts";
import { GitHubError } from "../../app/github/error.ts";
import type { Installation } from "../../app/github/installation.ts";
import type { CheckBody, Remark } from "../../app/github/objects.ts";
import type { Faults } from "./faults.ts";
import {
  appId,
  appLogin,
  type Check,
  type GitHubState,
  type PullRequest,
  seconds,
} from "./github-state.ts";
import { between, type Process, type World } from "./world.ts";

/** How long a request takes to GitHub, and its answer back, in milliseconds. */
const thereMs = { least: 20, most: 200 };
const backMs = { least: 10, most: 100 };

type Parts = { world: World; faults: Faults; state: GitHubState; process: Process };

/** GitHub as one process of the app sees it, over a network that breaks. */
export function connectGitHub(parts: Parts): GitHub {
  const { state, world } = parts;
  const api = createRequests(parts);
  const methods = installationOf(state, world);
  const installation = Object.fromEntries(
    Object.entries(methods).map(([name, work]) => [
      name,
      (...args: unknown[]) => api(name, () => (work as (...all: unknown[]) => unknown)(...args)),
    ]),
  ) as unknown as Installation;
  type Handler = (event: { id: string; name: string; payload: unknown }) => Promise<void>;
  const handlers = new Map<string, Handler>();
  return {
    appId,
    installations: async () => [],
    author: async () => ({ name: appLogin, email: "trimo@example.com" }),
    installation: () => installation,
    verify: async () => true,
    deliveries: (since) =>
      api("deliveries", () =>
        state.deliveries
          .flatMap(({ guid, tries }) => tries.map((one) => ({ guid, ...one })))
          .filter(({ at }) => at >= since)
          .sort((a, b) => b.at - a.at || b.id - a.id)
          .map(({ id, guid, at, status }) => ({
            id,
            guid,
            deliveredAt: Date.parse(seconds(at)),
            status,
          })),
      ),
    redeliver: (id) => api("redeliver", () => state.redeliver(id)),
    load: async (register) =>
      register({
        on: (name: string, handler: Handler) => handlers.set(name, handler),
      } as unknown as Probot),
    async receive({ guid, event, payload }) {
      const { action } = payload as { action?: string };
      const handler = handlers.get(action ? `${event}.${action}` : event) ?? handlers.get(event);
      await handler?.({ id: guid, name: event, payload });
    },
  };
}

/** Requests that take time and can fail, before they have had their effect or after. */
function createRequests({ world, faults, state, process }: Parts) {
  const chance = world.chance("github");
  return async <T>(name: string, effect: () => T): Promise<T> => {
    await process.pause(between(chance, thereMs.least, thereMs.most));
    if (world.now < faults.awayUntil) throw new GitHubError(503, `${name}: unavailable`, 0);
    const fault = faults.github.shift();
    const failed = () => {
      world.say("GitHub answers", fault?.status, fault?.when, name);
      return new GitHubError(fault?.status ?? 0, `${name}: ${fault?.status} ${fault?.when}`, 0);
    };
    if (fault?.when === "before") throw failed();
    const result = effect();
    if (/^(create|update)(Comment|Pull)|^react$|^markReady$/.test(name))
      state.written.push(world.now);
    await process.pause(between(chance, backMs.least, backMs.most));
    if (fault) throw failed();
    return result;
  };
}

/** What each request does; `Installation` with answers in place of promises. */
type Effects = {
  [Name in keyof Installation]: (
    ...args: Parameters<Installation[Name]>
  ) => Awaited<ReturnType<Installation[Name]>>;
};

function installationOf(state: GitHubState, world: World): Effects {
  return {
    ...accessOf(state, world),
    ...branchesOf(state),
    ...commentsOf(state, world),
    ...checksOf(state),
    ...pullsOf(state),
  };
}

function accessOf(_state: GitHubState, world: World) {
  return {
    permission: () => "admin" as const,
    repositories: () => [],
    search: () => ({ issues: [], more: false }),
    token: () => ({ token: "t", expiresAt: world.now + 3_600_000 }),
  };
}

function branchesOf(state: GitHubState) {
  return {
    file: () => null,
    list: () => [],
    branchHead: (_repository: string, branch: string) => state.branches.get(branch) ?? null,
    commit: () => ({ tree: "tree", message: "message" }),
    createCommit: (
      _repository: string,
      commit: { message: string; parent: string; date: string },
    ) => createHash("sha1").update(JSON.stringify(commit)).digest("hex"),
    createBranch: (_repository: string, branch: string, sha: string) => {
      if (state.branches.has(branch)) return "exists" as const;
      state.branches.set(branch, sha);
      return "created" as const;
    },
    deleteBranch: (_repository: string, branch: string) => void state.branches.delete(branch),
    compare: () => ({ status: "ahead" as const, ahead: 1, mergeBase: "a".repeat(40) }),
  };
}

function commentsOf(state: GitHubState, world: World) {
  const toRemark = ({ by, body, at }: { by: string; body: string; at: number }): Remark => ({
    by,
    bot: by === appLogin,
    body,
    at,
    editedAt: at,
    spot: null,
    review: null,
  });
  return {
    comments: (_repository: string, issue: number) => state.commentsOn(issue).map(toRemark),
    labels: (_repository: string, issue: number) => [...state.labelsOn(issue)],
    findComment: (_repository: string, issue: number, marker: string, since: string) =>
      state
        .commentsOn(issue)
        .find(
          ({ by, at, body }) => by === appLogin && at >= Date.parse(since) && body.includes(marker),
        )?.id ?? null,
    createComment: (_repository: string, issue: number, body: string) => {
      const comment = { id: state.nextId(), body, by: appLogin, at: world.now };
      state.commentsOn(issue).push(comment);
      world.say("the app says at", `#${issue}`, body.replaceAll("\n", " ").slice(0, 120));
      return comment.id;
    },
    updateComment: (_repository: string, id: number, body: string) => {
      const comment = [...state.comments.values()].flat().find((one) => one.id === id);
      if (!comment) throw new GitHubError(404, "no such comment", 0);
      comment.body = body;
    },
    react: () => {},
    removeLabel: (_repository: string, issue: number, label: string) =>
      state.label(issue, label, false, "app"),
  };
}

function checksOf(state: GitHubState) {
  const newest = (sha: string, externalId: string): Check | undefined =>
    state.checks.filter((one) => one.sha === sha && one.externalId === externalId).at(-1);
  return {
    failedChecks: () => [],
    findCheck: (_repository: string, sha: string, externalId: string) =>
      newest(sha, externalId)?.id ?? null,
    createCheck: (
      _repository: string,
      { sha, externalId, name = "Trimo" }: { sha: string; externalId: string; name?: string },
      { status, title }: CheckBody,
    ) => {
      const check = { id: state.nextId(), sha, externalId, name, status, title };
      state.checks.push(check);
      return check.id;
    },
    updateCheck: (_repository: string, id: number, { status, title }: CheckBody) => {
      const check = state.checks.find((one) => one.id === id);
      if (!check) throw new GitHubError(404, "no such check run", 0);
      if (check.status === "completed" && status !== "completed")
        throw new GitHubError(422, "the check run is completed", 0);
      Object.assign(check, { status, title });
    },
  };
}

function pullsOf(state: GitHubState) {
  const find = (number: number): PullRequest => {
    const pull = state.pulls.find((one) => one.number === number);
    if (!pull) throw new GitHubError(404, "no such pull request", 0);
    return pull;
  };
  return {
    reviews: () => [],
    reviewComments: () => [],
    findPull: (_repository: string, branch: string) =>
      state.pulls.find((one) => one.head === branch && one.state !== "closed") ?? null,
    pull: (_repository: string, number: number) => ({ ...find(number) }),
    pullDetails: (_repository: string, number: number) => {
      const pull = find(number);
      const head = {
        repository: "acme/app",
        branch: pull.head,
        sha: state.branches.get(pull.head) ?? "",
      };
      const base = { branch: "main", sha: "a".repeat(40) };
      return { nodeId: pull.nodeId, title: "", state: pull.state, merged: pull.merged, head, base };
    },
    createPull: (
      _repository: string,
      { body, head, draft }: { body: string; head: string; draft: boolean },
    ) => {
      if (state.pulls.some((one) => one.head === head && one.state !== "closed"))
        throw new GitHubError(422, "A pull request already exists", 0);
      const number = 1_000 + state.pulls.length;
      const nodeId = `node-${number}`;
      const pull = { number, nodeId, state: draft ? "draft" : "open", body, head, merged: false };
      state.pulls.push(pull as PullRequest);
      return { ...(pull as PullRequest) };
    },
    updatePull: (
      _repository: string,
      number: number,
      changes: { body?: string; state?: "closed" },
    ) => Object.assign(find(number), changes),
    markReady: (nodeId: string) => {
      const pull = state.pulls.find((one) => one.nodeId === nodeId);
      if (pull?.state === "draft") pull.state = "open";
    },
  };
}
