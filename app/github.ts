import type { EmitterWebhookEvent } from "@octokit/webhooks";
import type { Logger } from "pino";
import { Probot, ProbotOctokit } from "probot";
import { z } from "zod";
import type { Config } from "./config.ts";

/** The only file that imports Octokit. Every foreign error leaves it as a GitHubError. */
export class GitHubError extends Error {
  /** HTTP status; 0 when no answer came. */
  readonly status: number;
  /** What GitHub asked to wait, in milliseconds; 0 when it did not. */
  readonly retryAfterMs: number;
  constructor(status: number, message: string, retryAfterMs: number) {
    super(message);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
  /** Whether the same request may succeed later. */
  get passing(): boolean {
    return this.status === 0 || this.status >= 500 || this.status === 429 || this.retryAfterMs > 0;
  }
}

export type Permission = "none" | "read" | "triage" | "write" | "maintain" | "admin";
export type Conclusion = "success" | "failure" | "neutral" | "cancelled" | "timed_out";
export type CheckBody = {
  status: "queued" | "in_progress" | "completed";
  conclusion?: Conclusion;
  startedAt?: string;
  completedAt?: string;
  detailsUrl: string;
  title: string;
  summary: string;
  text?: string;
};
type Pull = {
  number: number;
  nodeId: string;
  state: "draft" | "open" | "closed";
  body: string;
};
export type Delivery = { id: number; guid: string; deliveredAt: number; ok: boolean };

/** One installation's doors of GitHub's API that Trimo uses. */
export type Workspace = {
  permission(repository: string, user: string): Promise<Permission>;
  file(repository: string, path: string, ref: string): Promise<string | null>;
  branchHead(repository: string, branch: string): Promise<string | null>;
  commit(repository: string, sha: string): Promise<{ tree: string; message: string }>;
  /** With the same arguments the same commit, whatever happened to the answer before. */
  createCommit(
    repository: string,
    commit: { message: string; tree: string; parent: string; date: string; author: Author },
  ): Promise<string>;
  createBranch(repository: string, branch: string, sha: string): Promise<"created" | "exists">;
  deleteBranch(repository: string, branch: string): Promise<void>;
  findPull(repository: string, branch: string): Promise<Pull | null>;
  pull(repository: string, number: number): Promise<Pull>;
  createPull(
    repository: string,
    pull: { title: string; body: string; head: string; base: string; draft: boolean },
  ): Promise<Pull>;
  updatePull(
    repository: string,
    number: number,
    changes: { body?: string; state?: "closed" },
  ): Promise<Pull>;
  markReady(nodeId: string): Promise<void>;
  findCheck(repository: string, sha: string, externalId: string): Promise<number | null>;
  createCheck(
    repository: string,
    sha: string,
    externalId: string,
    body: CheckBody,
  ): Promise<number>;
  updateCheck(repository: string, id: number, body: CheckBody): Promise<void>;
  findComment(
    repository: string,
    issue: number,
    marker: string,
    since: string,
  ): Promise<number | null>;
  createComment(repository: string, issue: number, body: string): Promise<number>;
  updateComment(repository: string, id: number, body: string): Promise<void>;
  react(repository: string, commentId: number): Promise<void>;
  removeLabel(repository: string, issue: number, label: string): Promise<void>;
  /** A token for the contents of one repository, an hour long. */
  token(repositoryId: number): Promise<{ token: string; expiresAt: number }>;
};
type Author = { name: string; email: string };

export type GitHub = {
  /** The App's own login and mail, under which its commits are made. */
  author(): Promise<Author>;
  workspace(id: number): Workspace;
  deliveries(since: number): Promise<Delivery[]>;
  redeliver(id: number): Promise<void>;
  verify(body: string, signature: string): Promise<boolean>;
  /** Hands a delivery to the handlers below; rejects when one of them does. */
  receive(delivery: { guid: string; event: string; payload: unknown }): Promise<void>;
  onLabeled(handler: (guid: string, event: Labeled) => Promise<void>): void;
  onComment(handler: (guid: string, event: Commented) => Promise<void>): void;
};

const Repository = z.object({
  id: z.number(),
  full_name: z.string(),
  default_branch: z.string(),
});
const Sender = z.object({ login: z.string(), type: z.string() });
const Issue = z.object({
  number: z.number(),
  title: z.string(),
  body: z.string().nullish(),
  state: z.string(),
  pull_request: z.unknown().optional(),
});
const base = {
  installation: z.object({ id: z.number() }),
  repository: Repository,
  sender: Sender,
  issue: Issue,
};
const Labeled = z.object({ ...base, label: z.object({ name: z.string() }) });
export type Labeled = z.infer<typeof Labeled>;
const Commented = z.object({
  ...base,
  comment: z.object({
    id: z.number(),
    body: z.string(),
    performed_via_github_app: z.object({ id: z.number() }).nullish(),
  }),
});
export type Commented = z.infer<typeof Commented>;

/** How long one request of ours may take. */
const requestMsMax = 30_000;

export function createGitHub(config: Config, log: Logger): GitHub {
  const probot = new Probot({
    appId: config.appId,
    privateKey: config.privateKey,
    secret: config.webhookSecret,
    baseUrl: config.apiUrl,
    log: log as never,
    // No retries: a 502 may have had its effect, and only the outbox knows to look first. No
    // throttling plugin: it waits 3 s before each comment; report.ts paces all writes itself.
    Octokit: ProbotOctokit.defaults((options: object) => ({
      ...options,
      retry: { enabled: false },
      throttle: { enabled: false },
      request: { fetch: fetchInTime },
    })) as typeof ProbotOctokit,
  });
  let author: Promise<Author> | undefined;
  const octokit = (installation?: number) => probot.auth(installation);
  return {
    author() {
      author ??= readAuthor().catch((error) => {
        author = undefined;
        throw error;
      });
      return author;
    },
    workspace: (id) => createWorkspace(config, octokit, id),
    deliveries: (since) => listDeliveries(octokit, since),
    async redeliver(id) {
      await call(async () =>
        (await octokit()).request("POST /app/hook/deliveries/{delivery_id}/attempts", {
          delivery_id: id,
        }),
      );
    },
    async verify(body, signature) {
      await probot.ready();
      return await probot.webhooks.verify(body, signature);
    },
    receive: ({ guid, event, payload }) =>
      probot.receive({ id: guid, name: event, payload } as EmitterWebhookEvent),
    onLabeled(handler) {
      probot.on("issues.labeled", (context) => handler(context.id, Labeled.parse(context.payload)));
    },
    onComment(handler) {
      probot.on("issue_comment.created", async (context) => {
        const event = Commented.parse(context.payload);
        if (event.comment.performed_via_github_app?.id === config.appId) return;
        await handler(context.id, event);
      });
    },
  };
  async function readAuthor(): Promise<Author> {
    const app = await call(async () => (await octokit()).request("GET /app"));
    const slug = app.data?.slug ?? "trimo";
    const host = new URL(config.webUrl).host;
    return { name: `${slug}[bot]`, email: `${config.appId}+${slug}[bot]@users.noreply.${host}` };
  }
}

/** A connection that has gone silent must not hold up every other workspace. */
function fetchInTime(url: string, options: RequestInit = {}): Promise<Response> {
  const limit = AbortSignal.timeout(requestMsMax);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  return fetch(url, { ...options, signal });
}

type Connect = (installation?: number) => Promise<InstanceType<typeof ProbotOctokit>>;

function createWorkspace(config: Config, connect: Connect, id: number): Workspace {
  const api = async <T>(
    work: (octokit: InstanceType<typeof ProbotOctokit>) => Promise<T>,
  ): Promise<T> => call(async () => await work(await connect(id)));
  return {
    permission: (repository, username) =>
      api(async (o) => {
        const answer = await orNull(
          o.rest.repos.getCollaboratorPermissionLevel({ ...split(repository), username }),
        );
        const role = answer?.data.role_name ?? answer?.data.permission ?? "none";
        const known: string[] = ["none", "read", "triage", "write", "maintain", "admin"];
        // A custom role has a name of its own; `permission` then says what it amounts to.
        return (known.includes(role) ? role : answer?.data.permission) as Permission;
      }),
    file: (repository, path, ref) =>
      api(async (o) => {
        const answer = await orNull(o.rest.repos.getContent({ ...split(repository), path, ref }));
        if (!answer || Array.isArray(answer.data) || answer.data.type !== "file") return null;
        return Buffer.from(answer.data.content, "base64").toString("utf8");
      }),
    branchHead: (repository, branch) =>
      api(async (o) => {
        const ref = `heads/${branch}`;
        const answer = await orNull(o.rest.git.getRef({ ...split(repository), ref }));
        return answer?.data.object.sha ?? null;
      }),
    commit: (repository, sha) =>
      api(async (o) => {
        const { data } = await o.rest.git.getCommit({ ...split(repository), commit_sha: sha });
        return { tree: data.tree.sha, message: data.message };
      }),
    createCommit: (repository, commit) =>
      api(async (o) => {
        const person = { ...commit.author, date: commit.date };
        const { data } = await o.rest.git.createCommit({
          ...split(repository),
          message: commit.message,
          tree: commit.tree,
          parents: [commit.parent],
          author: person,
          committer: person,
        });
        return data.sha;
      }),
    createBranch: (repository, branch, sha) =>
      api(async (o) => {
        try {
          await o.rest.git.createRef({ ...split(repository), ref: `refs/heads/${branch}`, sha });
          return "created";
        } catch (error) {
          if (statusOf(error) === 422 && String(error).includes("already exists")) return "exists";
          throw error;
        }
      }),
    deleteBranch: (repository, branch) =>
      api(async (o) => {
        try {
          await o.rest.git.deleteRef({ ...split(repository), ref: `heads/${branch}` });
        } catch (error) {
          // Gone already: 422 "Reference does not exist".
          if (statusOf(error) !== 422 && statusOf(error) !== 404) throw error;
        }
      }),
    findPull: (repository, branch) =>
      api(async (o) => {
        const { owner, repo } = split(repository);
        const head = `${owner}:${branch}`;
        const { data } = await o.rest.pulls.list({ owner, repo, head, state: "open" });
        return data[0] ? toPull(data[0]) : null;
      }),
    pull: (repository, number) =>
      api(async (o) => {
        const { data } = await o.rest.pulls.get({ ...split(repository), pull_number: number });
        return toPull(data);
      }),
    createPull: (repository, pull) =>
      api(async (o) => toPull((await o.rest.pulls.create({ ...split(repository), ...pull })).data)),
    updatePull: (repository, number, changes) =>
      api(async (o) => {
        const where = { ...split(repository), pull_number: number };
        return toPull((await o.rest.pulls.update({ ...where, ...changes })).data);
      }),
    markReady: (nodeId) =>
      api(async (o) => {
        await o.graphql(
          "mutation($id: ID!) { markPullRequestReadyForReview(input: { pullRequestId: $id }) { pullRequest { isDraft } } }",
          { id: nodeId },
        );
      }),
    findCheck: (repository, sha, externalId) =>
      api(async (o) => {
        const where = { ...split(repository), ref: sha, app_id: config.appId, per_page: 100 };
        const { data } = await o.rest.checks.listForRef({ ...where, filter: "all" });
        const newestFirst = data.check_runs.filter((run) => run.external_id === externalId);
        return newestFirst[0]?.id ?? null;
      }),
    createCheck: (repository, sha, externalId, body) =>
      api(async (o) => {
        const where = { ...split(repository), name: "Trimo", head_sha: sha };
        const sent = { ...where, external_id: externalId, ...checkFields(body) };
        return (await o.rest.checks.create(sent)).data.id;
      }),
    updateCheck: (repository, checkId, body) =>
      api(async (o) => {
        const where = { ...split(repository), check_run_id: checkId };
        await o.rest.checks.update({ ...where, ...checkFields(body) });
      }),
    findComment: (repository, issue, marker, since) =>
      api(async (o) => {
        const where = { ...split(repository), issue_number: issue, since, per_page: 100 };
        for await (const page of o.paginate.iterator(o.rest.issues.listComments, where)) {
          const found = page.data.find((comment) => comment.body?.includes(marker));
          if (found) return found.id;
        }
        return null;
      }),
    createComment: (repository, issue, body) =>
      api(async (o) => {
        const where = { ...split(repository), issue_number: issue };
        return (await o.rest.issues.createComment({ ...where, body })).data.id;
      }),
    updateComment: (repository, commentId, body) =>
      api(async (o) => {
        await o.rest.issues.updateComment({ ...split(repository), comment_id: commentId, body });
      }),
    react: (repository, commentId) =>
      api(async (o) => {
        const where = { ...split(repository), comment_id: commentId };
        await o.rest.reactions.createForIssueComment({ ...where, content: "eyes" });
      }),
    removeLabel: (repository, issue, name) =>
      api(async (o) => {
        await orNull(
          o.rest.issues.removeLabel({ ...split(repository), issue_number: issue, name }),
        );
      }),
    token: (repositoryId) =>
      call(async () => {
        // Not octokit.auth(): it ignores the base URL of a GitHub Enterprise Server.
        const { data } = await (await connect()).rest.apps.createInstallationAccessToken({
          installation_id: id,
          repository_ids: [repositoryId],
          permissions: { contents: "write" },
        });
        return { token: data.token, expiresAt: Date.parse(data.expires_at) };
      }),
  };
}

async function listDeliveries(connect: Connect, since: number): Promise<Delivery[]> {
  return await call(async () => {
    const octokit = await connect();
    const found: Delivery[] = [];
    const pages = octokit.paginate.iterator("GET /app/hook/deliveries", { per_page: 100 });
    for await (const page of pages) {
      for (const row of page.data as DeliveryRow[]) {
        const deliveredAt = Date.parse(row.delivered_at);
        if (deliveredAt < since) return found;
        found.push({
          id: row.id,
          guid: row.guid,
          deliveredAt,
          ok: row.status_code >= 200 && row.status_code < 300,
        });
      }
    }
    return found;
  });
}
type DeliveryRow = { id: number; guid: string; delivered_at: string; status_code: number };

function checkFields(body: CheckBody) {
  return {
    status: body.status,
    ...(body.conclusion ? { conclusion: body.conclusion } : {}),
    ...(body.startedAt ? { started_at: body.startedAt } : {}),
    ...(body.completedAt ? { completed_at: body.completedAt } : {}),
    details_url: body.detailsUrl,
    output: {
      title: body.title,
      summary: body.summary,
      ...(body.text ? { text: body.text } : {}),
    },
  };
}

function toPull(data: {
  number: number;
  node_id: string;
  state: string;
  draft?: boolean;
  body: string | null;
}): Pull {
  const state = data.state === "closed" ? "closed" : data.draft ? "draft" : "open";
  return { number: data.number, nodeId: data.node_id, state, body: data.body ?? "" };
}

function split(repository: string): { owner: string; repo: string } {
  const [owner = "", repo = ""] = repository.split("/");
  return { owner, repo };
}

function statusOf(error: unknown): number {
  return error instanceof Error && "status" in error ? Number(error.status) : 0;
}

async function orNull<T>(request: Promise<T>): Promise<T | null> {
  try {
    return await request;
  } catch (error) {
    if (statusOf(error) === 404) return null;
    throw error;
  }
}

async function call<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof GitHubError) throw error;
    const status = statusOf(error);
    const headers = responseHeaders(error);
    const message = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
    throw new GitHubError(status, message.slice(0, 300), retryAfter(status, headers, message));
  }
}

function responseHeaders(error: unknown): Record<string, string | number | undefined> {
  const response = error instanceof Error && "response" in error ? error.response : undefined;
  return (response as { headers?: Record<string, string> } | undefined)?.headers ?? {};
}

/** GitHub, "Rate limits for the REST API": Retry-After, else the reset, else at least a minute. */
function retryAfter(
  status: number,
  headers: Record<string, string | number | undefined>,
  message: string,
): number {
  if (status !== 403 && status !== 429) return 0;
  if (headers["retry-after"]) return Number(headers["retry-after"]) * 1000;
  if (String(headers["x-ratelimit-remaining"]) === "0" && headers["x-ratelimit-reset"])
    return Math.max(1000, Number(headers["x-ratelimit-reset"]) * 1000 - Date.now());
  return status === 429 || /rate limit/i.test(message) ? 60_000 : 0;
}
