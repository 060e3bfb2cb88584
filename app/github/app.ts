import type { EmitterWebhookEvent } from "@octokit/webhooks";
import type { Logger } from "pino";
import { Probot, ProbotOctokit } from "probot";
import type { Config } from "../config.ts";
import type { Issue, Repository } from "../inbound/payload.ts";
import type { TokenPurpose } from "../protocol/wire.ts";

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
export type Conclusion =
  | "success"
  | "failure"
  | "neutral"
  | "cancelled"
  | "timed_out"
  | "action_required";
/** A line of a file with what a verify command said of it. */
export type Annotation = { path: string; line: number; message: string };
/** Label at most 20 long, description 40, identifier 20 (REST docs, "Create a check run"). */
export type Action = { label: string; description: string; identifier: string };
export type CheckBody = {
  status: "queued" | "in_progress" | "completed";
  conclusion?: Conclusion;
  startedAt?: string;
  completedAt?: string;
  detailsUrl?: string;
  title: string;
  summary: string;
  text?: string;
  /** At most 50 a request; GitHub adds them to those it has. */
  annotations?: Annotation[];
  actions?: Action[];
};
/** Words of a person under an issue or pull request; times in milliseconds since 1970. */
export type Remark = {
  by: string;
  bot: boolean;
  body: string;
  at: number;
  editedAt: number;
  spot: { path: string; from: number | null; to: number | null; hunk: string } | null;
  /** The review it is, or belongs to; null: none. */
  review: number | null;
};
export type FailedCheck = { name: string; result: string; output: string };
export type PullDetails = {
  nodeId: string;
  title: string;
  state: "draft" | "open" | "closed";
  head: { repository: string | null; branch: string; sha: string };
  base: { branch: string; sha: string };
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
  pullDetails(repository: string, number: number): Promise<PullDetails | null>;
  /** Names in a folder; none where there is no such folder. */
  list(repository: string, path: string, ref: string): Promise<string[]>;
  /** How `head` stands to `base`. */
  compare(
    repository: string,
    base: string,
    head: string,
  ): Promise<{
    status: "identical" | "ahead" | "behind" | "diverged";
    ahead: number;
    /** The commit that both come from. */
    mergeBase: string;
  } | null>;
  /** Comments of an issue or pull request that were made or edited since; at most 500. */
  comments(repository: string, issue: number, since: number): Promise<Remark[]>;
  reviews(repository: string, pull: number): Promise<Remark[]>;
  reviewComments(repository: string, pull: number, since: number): Promise<Remark[]>;
  /** Checks of other apps that failed on a commit, with what they said. */
  failedChecks(repository: string, sha: string): Promise<FailedCheck[]>;
  /** Open issues, by a search in GitHub's words. */
  search(repository: string, query: string, most: number): Promise<FoundIssue[]>;
  repositories(): Promise<FoundRepository[]>;
  findCheck(repository: string, sha: string, externalId: string): Promise<number | null>;
  createCheck(
    repository: string,
    sha: string,
    externalId: string,
    body: CheckBody,
    name?: string,
  ): Promise<number>;
  updateCheck(repository: string, id: number, body: CheckBody): Promise<void>;
  /** A comment of the App's own that holds these words. */
  findComment(
    repository: string,
    issue: number,
    marker: string,
    since: string,
  ): Promise<number | null>;
  createComment(repository: string, issue: number, body: string): Promise<number>;
  updateComment(repository: string, id: number, body: string): Promise<void>;
  react(repository: string, commentId: number, where: "comment" | "line"): Promise<void>;
  removeLabel(repository: string, issue: number, label: string): Promise<void>;
  /** A token for one repository, an hour long: to push its branch, or to read what is said there. */
  token(repositoryId: number, purpose: TokenPurpose): Promise<{ token: string; expiresAt: number }>;
};
type Author = { name: string; email: string };
export type FoundIssue = Pick<Issue, "number" | "title" | "body" | "comments" | "labels">;
export type FoundRepository = Repository & { archived: boolean };

export type GitHub = {
  /** The App's number. */
  appId: number;
  /** Every installation of the App. */
  installations(): Promise<{ id: number; account: string; suspended: boolean }[]>;
  /** The App's own login and mail, under which its commits are made. */
  author(): Promise<Author>;
  workspace(id: number): Workspace;
  deliveries(since: number): Promise<Delivery[]>;
  redeliver(id: number): Promise<void>;
  verify(body: string, signature: string): Promise<boolean>;
  /** Hands a delivery to the handlers below; rejects when one of them does. */
  receive(delivery: { guid: string; event: string; payload: unknown }): Promise<void>;
  onEvent(handler: (guid: string, event: string, payload: unknown) => Promise<void>): void;
};

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
  const octokit = (installation?: number) => probot.auth(installation);
  let known: Promise<Author> | undefined;
  const author = () => {
    known ??= readAuthor().catch((error) => {
      known = undefined;
      throw error;
    });
    return known;
  };
  return {
    appId: config.appId,
    installations: () => listInstallations(octokit),
    author,
    workspace: (id) => createWorkspace(config, octokit, id, author),
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
    onEvent(handler) {
      probot.onAny((context) => handler(context.id, context.name, context.payload));
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

type Connect = (installation?: number) => Promise<Octokit>;

function createWorkspace(
  config: Config,
  connect: Connect,
  id: number,
  author: () => Promise<Author>,
): Workspace {
  const api = async <T>(work: (octokit: Octokit) => Promise<T>): Promise<T> =>
    call(async () => await work(await connect(id)));
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
    pullDetails: (repository, number) =>
      api(async (o) => {
        const where = { ...split(repository), pull_number: number };
        const answer = await orNull(o.rest.pulls.get(where));
        if (!answer) return null;
        const { head, base, node_id, title } = answer.data;
        return {
          nodeId: node_id,
          title,
          state: toPull(answer.data).state,
          head: { repository: head.repo?.full_name ?? null, branch: head.ref, sha: head.sha },
          base: { branch: base.ref, sha: base.sha },
        };
      }),
    list: (repository, path, ref) =>
      api(async (o) => {
        const answer = await orNull(o.rest.repos.getContent({ ...split(repository), path, ref }));
        return Array.isArray(answer?.data) ? answer.data.map((entry) => entry.name) : [];
      }),
    compare: (repository, base, head) =>
      api(async (o) => {
        // The second page has no files: neither their names nor their lines are asked for.
        const where = { ...split(repository), basehead: `${base}...${head}` };
        const answer = await orNull(
          o.rest.repos.compareCommitsWithBasehead({ ...where, per_page: 1, page: 2 }),
        );
        if (!answer) return null;
        const { status, ahead_by, merge_base_commit } = answer.data;
        return { status, ahead: ahead_by, mergeBase: merge_base_commit.sha };
      }),
    comments: (repository, issue_number, since) =>
      api(async (o) => {
        const where = { ...split(repository), issue_number, ...sinceOf(since), per_page: 100 };
        const pages = o.paginate.iterator(o.rest.issues.listComments, where);
        return (await upTo(pages, remarksMax)).map((row) =>
          toRemark(row, row.created_at, row.updated_at, null),
        );
      }),
    reviews: (repository, pull_number) =>
      api(async (o) => {
        const where = { ...split(repository), pull_number, per_page: 100 };
        const pages = o.paginate.iterator(o.rest.pulls.listReviews, where);
        return (await upTo(pages, remarksMax)).map((row) => ({
          ...toRemark(row, row.submitted_at ?? "", row.submitted_at ?? "", null),
          review: row.id,
        }));
      }),
    reviewComments: (repository, pull_number, since) =>
      api(async (o) => {
        const where = { ...split(repository), pull_number, ...sinceOf(since), per_page: 100 };
        const pages = o.paginate.iterator(o.rest.pulls.listReviewComments, where);
        return (await upTo(pages, remarksMax)).map((row) => {
          const to = row.line ?? row.original_line ?? null;
          const spot = { path: row.path, from: row.start_line ?? to, to, hunk: row.diff_hunk };
          const remark = toRemark(row, row.created_at, row.updated_at, spot);
          return { ...remark, review: row.pull_request_review_id };
        });
      }),
    failedChecks: (repository, ref) =>
      api(async (o) => {
        const where = { ...split(repository), ref, per_page: 100, filter: "latest" as const };
        const { data } = await o.rest.checks.listForRef(where);
        const failed = data.check_runs.filter(
          (run) =>
            run.app?.id !== config.appId && ["failure", "timed_out"].includes(run.conclusion ?? ""),
        );
        const shown = failed.slice(0, failedChecksMax);
        return await Promise.all(shown.map((run) => readFailedCheck(o, repository, run)));
      }),
    search: (repository, query, most) =>
      api(async (o) => {
        // Ours last: of two contradicting words GitHub takes the last.
        const asked = /\bOR\b/.test(query) ? `(${query})` : query;
        const q = `${asked} repo:${repository} is:issue is:open`;
        const { data } = await o.rest.search.issuesAndPullRequests({
          q,
          sort: "created",
          order: "asc",
          per_page: Math.min(100, most),
        });
        // Whatever a query makes of ours, another repository's issue is none of this one's work.
        const own = `/repos/${repository}`.toLowerCase();
        const items = data.items.filter((item) => item.repository_url.toLowerCase().endsWith(own));
        return items.map((item) => ({
          number: item.number,
          title: item.title,
          body: item.body ?? "",
          comments: item.comments,
          labels: item.labels.flatMap((label) => label.name ?? []),
        }));
      }),
    repositories: () =>
      api(async (o) => {
        const pages = o.paginate.iterator(o.rest.apps.listReposAccessibleToInstallation, {
          per_page: 100,
        });
        return (await upTo(pages, repositoriesMax)).map((row) => ({
          id: row.id,
          fullName: row.full_name,
          defaultBranch: row.default_branch,
          archived: row.archived,
        }));
      }),
    findCheck: (repository, sha, externalId) =>
      api(async (o) => {
        const where = { ...split(repository), ref: sha, app_id: config.appId, per_page: 100 };
        const { data } = await o.rest.checks.listForRef({ ...where, filter: "all" });
        const newestFirst = data.check_runs.filter((run) => run.external_id === externalId);
        return newestFirst[0]?.id ?? null;
      }),
    createCheck: (repository, sha, externalId, body, name = "Trimo") =>
      api(async (o) => {
        const where = { ...split(repository), name, head_sha: sha };
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
        // A person who quotes a comment of ours quotes its marker too.
        const me = await author();
        const where = { ...split(repository), issue_number: issue, since, per_page: 100 };
        for await (const page of o.paginate.iterator(o.rest.issues.listComments, where)) {
          const found = page.data.find(
            ({ user, body, performed_via_github_app: app }) =>
              (app?.id === config.appId || user?.login === me.name) && body?.includes(marker),
          );
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
    react: (repository, commentId, kind) =>
      api(async (o) => {
        const where = { ...split(repository), comment_id: commentId, content: "eyes" as const };
        if (kind === "line") await o.rest.reactions.createForPullRequestReviewComment(where);
        else await o.rest.reactions.createForIssueComment(where);
      }),
    removeLabel: (repository, issue, name) =>
      api(async (o) => {
        await orNull(
          o.rest.issues.removeLabel({ ...split(repository), issue_number: issue, name }),
        );
      }),
    token: (repositoryId, purpose) =>
      call(async () => {
        // Not octokit.auth(): it ignores the base URL of a GitHub Enterprise Server.
        const { data } = await (await connect()).rest.apps.createInstallationAccessToken({
          installation_id: id,
          repository_ids: [repositoryId],
          permissions: tokenPermissions[purpose],
        });
        return { token: data.token, expiresAt: Date.parse(data.expires_at) };
      }),
  };
}

/** The least for each purpose; what the App itself was not given cannot be asked for. */
const tokenPermissions = {
  push: { contents: "write" },
  read: { issues: "read", pull_requests: "read", checks: "read" },
} as const satisfies Record<TokenPurpose, object>;

/** Of one kind of words under one issue; older ones of a longer thread are left out. */
export const remarksMax = 500;
const repositoriesMax = 1_000;
/** So many times more is read than kept, for the sake of the newest. */
const pagesFactor = 4;
const failedChecksMax = 10;
const annotationsShownMax = 20;

async function listInstallations(connect: Connect) {
  return await call(async () => {
    const octokit = await connect();
    const pages = octokit.paginate.iterator(octokit.rest.apps.listInstallations, {
      per_page: 100,
    });
    return (await upTo(pages, repositoriesMax)).map((row) => ({
      id: row.id,
      account: (row.account && "login" in row.account ? row.account.login : "") ?? "",
      suspended: row.suspended_at !== null,
    }));
  });
}

/** The last rows of a paginated answer. */
async function upTo<T>(pages: AsyncIterable<{ data: T[] }>, most: number): Promise<T[]> {
  const rows: T[] = [];
  for await (const page of pages) {
    rows.push(...page.data);
    if (rows.length >= most * pagesFactor) break;
  }
  // GitHub gives the oldest first; the newest are what matters.
  return rows.slice(-most);
}

const sinceOf = (at: number) => (at > 0 ? { since: new Date(at).toISOString() } : {});

function toRemark(
  row: { body?: string | null; user?: { login: string; type?: string } | null },
  createdAt: string,
  updatedAt: string,
  spot: Remark["spot"],
): Remark {
  return {
    by: row.user?.login ?? "ghost",
    bot: row.user?.type === "Bot" || (row.user?.login ?? "").endsWith("[bot]"),
    body: row.body ?? "",
    at: Date.parse(createdAt),
    editedAt: Date.parse(updatedAt),
    spot,
    review: null,
  };
}

type Octokit = InstanceType<typeof ProbotOctokit>;
type CheckRun = Awaited<
  ReturnType<Octokit["rest"]["checks"]["listForRef"]>
>["data"]["check_runs"][number];

/** A check's own words: its title, summary and text, and the lines it points at. */
async function readFailedCheck(
  o: Octokit,
  repository: string,
  run: CheckRun,
): Promise<FailedCheck> {
  const { title, summary, text, annotations_count } = run.output;
  const parts = [title, summary, text].filter(Boolean);
  if (annotations_count > 0) {
    const where = { ...split(repository), check_run_id: run.id, per_page: annotationsShownMax };
    const { data } = await o.rest.checks.listAnnotations(where);
    for (const one of data) parts.push(`${one.path}:${one.start_line}: ${one.message ?? ""}`);
  }
  return { name: run.name, result: run.conclusion ?? "failure", output: parts.join("\n") };
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
    ...(body.detailsUrl ? { details_url: body.detailsUrl } : {}),
    output: {
      title: body.title,
      summary: body.summary,
      ...(body.text ? { text: body.text } : {}),
      ...(body.annotations && body.annotations.length > 0
        ? {
            annotations: body.annotations.map(({ path, line, message }) => ({
              path,
              start_line: line,
              end_line: line,
              annotation_level: "failure" as const,
              message,
            })),
          }
        : {}),
    },
    ...(body.actions ? { actions: body.actions } : {}),
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
