import { z } from "zod";
import { trimoYmlPath } from "../protocol/trimo-yml.ts";

/** A person, or what acts in a person's place. */
export type Sender = { login: string; type: string };
export type Repository = { id: number; fullName: string; defaultBranch: string };
export type Issue = {
  number: number;
  title: string;
  body: string;
  open: boolean;
  isPull: boolean;
  labels: string[];
  /** How many comments it had. */
  comments: number;
};
/** Where in a diff a review comment stands; `hunk` as GitHub cuts it. */
export type Spot = { path: string; from: number | null; to: number | null; hunk: string };
export type Button = "again" | "fix" | "continue";

type Here = { workspace: number; repository: Repository; sender: Sender };
export type Labeled = Here & {
  type: "labeled" | "unlabeled";
  issue: Issue;
  label: string;
  at: number | null;
};
export type Said = Here & {
  type: "said";
  /** `comment` under an issue or pull request, `line` of a diff, `review` as a whole. */
  where: "comment" | "line" | "review";
  issue: Issue;
  id: number;
  body: string;
  spot: Spot | null;
  /** Of a review: it asks for changes. */
  wantsChanges: boolean;
  /** When, in milliseconds since 1970; null where GitHub does not say. */
  at: number | null;
};
/** A button or *Re-run* at a check of ours: of one run, or of all on a commit. */
export type Pressed = Here & {
  type: "pressed";
  button: Button;
  run: string | null;
  sha: string;
};
/** All checks of another app on a commit are over. */
export type CiOver = Here & {
  type: "ci";
  sha: string;
  branch: string;
  failed: boolean;
  app: string;
};
export type PullEnded = Here & {
  type: "pull_closed" | "pull_reopened";
  pull: number;
  merged: boolean;
  issue: Issue;
};
export type PullChanged = Here & {
  type: "pull_changed";
  pull: number;
  sha: string;
  base: string;
  /** Its branch where that is of this repository; null: a fork's. */
  branch: string | null;
  nodeId: string;
  draft: boolean;
};
export type Pushed = Here & {
  type: "pushed";
  branch: string;
  /** Null: the branch was deleted. */
  sha: string | null;
  forced: boolean;
  touchesConfig: boolean;
};
export type IssueGone = Here & { type: "issue_gone"; issue: Issue; why: string };
export type RepositoryChanged = Here & {
  type: "repository_changed";
  change: "renamed" | "transferred" | "archived" | "deleted";
};
export type WorkspaceChanged = {
  type: "workspace_changed";
  workspace: number;
  account: string;
  state: "active" | "suspended" | "gone";
};
export type RepositoriesRemoved = {
  type: "repositories_removed";
  workspace: number;
  ids: number[];
};

/** What happened on GitHub, as far as Trimo cares. */
export type Happening =
  | Labeled
  | Said
  | Pressed
  | CiOver
  | PullEnded
  | PullChanged
  | Pushed
  | IssueGone
  | RepositoryChanged
  | WorkspaceChanged
  | RepositoriesRemoved;

/**
 * A delivery's payload → what it says, or null when it is none of Trimo's business: other events, apps'
 * and bots' words, Trimo's own doings. `appId` is Trimo's.
 */
export function readPayload(event: string, payload: unknown, appId: number): Happening | null {
  const { action } = Action.parse(payload);
  const read = readers[`${event}.${action}`] ?? readers[event];
  return read ? read(payload, appId) : null;
}

const Action = z.object({ action: z.string().nullish() });
const RepositoryIn = z
  .object({ id: z.number(), full_name: z.string(), default_branch: z.string().nullish() })
  .transform((r) => ({
    id: r.id,
    fullName: r.full_name,
    defaultBranch: r.default_branch ?? "main",
  }));
const SenderIn = z.object({ login: z.string(), type: z.string() });
const HereIn = z.object({
  installation: z.object({ id: z.number() }),
  repository: RepositoryIn,
  sender: SenderIn,
});
const IssueIn = z
  .object({
    number: z.number(),
    title: z.string(),
    body: z.string().nullish(),
    state: z.string(),
    comments: z.number().nullish(),
    labels: z.array(z.object({ name: z.string().nullish() })).nullish(),
    pull_request: z.unknown().optional(),
  })
  .transform((issue) => ({
    number: issue.number,
    title: issue.title,
    body: issue.body ?? "",
    open: issue.state === "open",
    isPull: issue.pull_request !== undefined && issue.pull_request !== null,
    labels: (issue.labels ?? []).flatMap((label) => label.name ?? []),
    comments: issue.comments ?? 0,
  }));
const AppIn = z.object({ id: z.number() }).nullish();
const Sha = z.string().regex(/^[0-9a-f]{40,64}$/);

/** An installation that is not named is none of this App's: such a delivery is passed over. */
function here(payload: unknown): Here | null {
  const parsed = HereIn.partial().parse(payload);
  const { installation, repository, sender } = parsed;
  if (!installation || !repository || !sender) return null;
  return { workspace: installation.id, repository, sender };
}

/** Whose words start nothing. */
export const isBot = (sender: Sender): boolean =>
  sender.type === "Bot" || sender.login.endsWith("[bot]");

type Reader = (payload: unknown, appId: number) => Happening | null;
const readers: Record<string, Reader> = {
  "issues.labeled": (payload) => readLabel("labeled", payload),
  "issues.unlabeled": (payload) => readLabel("unlabeled", payload),
  "pull_request.labeled": (payload) => readLabel("labeled", payload),
  "pull_request.unlabeled": (payload) => readLabel("unlabeled", payload),
  "issues.deleted": (payload) => readIssueGone(payload, "the issue was deleted"),
  "issues.transferred": (payload) => readIssueGone(payload, "the issue was transferred"),
  "issue_comment.created": readComment,
  "pull_request_review.submitted": readReview,
  "pull_request_review_comment.created": readReviewComment,
  "check_run.requested_action": readPressed,
  "check_run.rerequested": readPressed,
  "check_suite.completed": readSuite,
  "check_suite.rerequested": readSuiteAgain,
  "pull_request.closed": (payload) => readPullEnd("pull_closed", payload),
  "pull_request.reopened": (payload) => readPullEnd("pull_reopened", payload),
  "pull_request.opened": readPullChange,
  "pull_request.synchronize": readPullChange,
  push: readPush,
  "repository.renamed": (payload) => readRepository("renamed", payload),
  "repository.transferred": (payload) => readRepository("transferred", payload),
  "repository.archived": (payload) => readRepository("archived", payload),
  "repository.deleted": (payload) => readRepository("deleted", payload),
  "installation.created": (payload) => readInstallation("active", payload),
  "installation.unsuspend": (payload) => readInstallation("active", payload),
  "installation.suspend": (payload) => readInstallation("suspended", payload),
  "installation.deleted": (payload) => readInstallation("gone", payload),
  "installation_repositories.removed": readRemoved,
};

/** A pull request's payload has the same fields as an issue's, under another name. */
const PullIn = z.object({
  pull_request: z.object({
    number: z.number(),
    title: z.string(),
    body: z.string().nullish(),
    state: z.string(),
    merged: z.boolean().nullish(),
    labels: z.array(z.object({ name: z.string() })).nullish(),
    draft: z.boolean().nullish(),
    node_id: z.string().nullish(),
    base: z.object({ ref: z.string() }).nullish(),
    head: z.object({
      sha: Sha,
      ref: z.string(),
      repo: z.object({ id: z.number() }).nullish(),
    }),
  }),
});
type PullIn = z.infer<typeof PullIn>["pull_request"];
const asIssue = (pull: PullIn): Issue => ({
  number: pull.number,
  title: pull.title,
  body: pull.body ?? "",
  open: pull.state === "open",
  isPull: true,
  labels: (pull.labels ?? []).map((label) => label.name),
  comments: 0,
});

function readLabel(type: "labeled" | "unlabeled", payload: unknown): Labeled | null {
  const place = here(payload);
  const { label, issue } = z
    .object({ label: z.object({ name: z.string() }).nullish(), issue: IssueIn.optional() })
    .parse(payload);
  if (!place || !label) return null;
  const about = issue ?? asIssue(PullIn.parse(payload).pull_request);
  const { issue: raw, pull_request } = Updated.parse(payload);
  const at = timeOf((raw ?? pull_request)?.updated_at);
  return { ...place, type, issue: about, label: label.name, at };
}

const Time = z.string().nullish();
const updated = z.object({ updated_at: Time }).optional();
const Updated = z.object({ issue: updated, pull_request: updated });

function timeOf(text: string | null | undefined): number | null {
  const at = Date.parse(text ?? "");
  return Number.isNaN(at) ? null : at;
}

function readIssueGone(payload: unknown, why: string): IssueGone | null {
  const place = here(payload);
  if (!place) return null;
  const { issue } = z.object({ issue: IssueIn }).parse(payload);
  return { ...place, type: "issue_gone", issue, why };
}

function readComment(payload: unknown, appId: number): Said | null {
  const place = here(payload);
  if (!place || isBot(place.sender)) return null;
  const { issue, comment } = z
    .object({
      issue: IssueIn,
      comment: z.object({
        id: z.number(),
        body: z.string().nullish(),
        created_at: Time,
        performed_via_github_app: AppIn,
      }),
    })
    .parse(payload);
  if (comment.performed_via_github_app?.id === appId) return null;
  const said = { type: "said" as const, where: "comment" as const, spot: null };
  const { id, body } = comment;
  const at = timeOf(comment.created_at);
  return { ...place, ...said, issue, id, body: body ?? "", wantsChanges: false, at };
}

function readReview(payload: unknown): Said | null {
  const place = here(payload);
  if (!place || isBot(place.sender)) return null;
  const { review } = z
    .object({
      review: z.object({
        id: z.number(),
        body: z.string().nullish(),
        state: z.string(),
        submitted_at: Time,
      }),
    })
    .parse(payload);
  const issue = asIssue(PullIn.parse(payload).pull_request);
  const wantsChanges = review.state.toLowerCase() === "changes_requested";
  const said = { type: "said" as const, where: "review" as const, spot: null, wantsChanges };
  const at = timeOf(review.submitted_at);
  return { ...place, ...said, issue, id: review.id, body: review.body ?? "", at };
}

function readReviewComment(payload: unknown, appId: number): Said | null {
  const place = here(payload);
  if (!place || isBot(place.sender)) return null;
  const { comment } = z
    .object({
      comment: z.object({
        id: z.number(),
        body: z.string().nullish(),
        path: z.string(),
        line: z.number().nullish(),
        original_line: z.number().nullish(),
        start_line: z.number().nullish(),
        diff_hunk: z.string().nullish(),
        created_at: Time,
        performed_via_github_app: AppIn,
      }),
    })
    .parse(payload);
  if (comment.performed_via_github_app?.id === appId) return null;
  const to = comment.line ?? comment.original_line ?? null;
  const spot = {
    path: comment.path,
    from: comment.start_line ?? to,
    to,
    hunk: comment.diff_hunk ?? "",
  };
  const issue = asIssue(PullIn.parse(payload).pull_request);
  const said = { type: "said" as const, where: "line" as const, spot, wantsChanges: false };
  const at = timeOf(comment.created_at);
  return { ...place, ...said, issue, id: comment.id, body: comment.body ?? "", at };
}

function readPressed(payload: unknown, appId: number): Pressed | null {
  const place = here(payload);
  if (!place || isBot(place.sender)) return null;
  const { check_run, requested_action } = z
    .object({
      check_run: z.object({ external_id: z.string().nullish(), head_sha: Sha, app: AppIn }),
      requested_action: z.object({ identifier: z.string().nullish() }).nullish(),
    })
    .parse(payload);
  if (check_run.app?.id !== appId || !check_run.external_id) return null;
  const identifier = requested_action?.identifier ?? "again";
  if (identifier !== "again" && identifier !== "fix" && identifier !== "continue") return null;
  const { external_id: run, head_sha: sha } = check_run;
  return { ...place, type: "pressed", button: identifier, run, sha };
}

function readSuiteAgain(payload: unknown, appId: number): Pressed | null {
  const place = here(payload);
  const { check_suite } = z
    .object({ check_suite: z.object({ head_sha: Sha, app: AppIn }) })
    .parse(payload);
  if (!place || isBot(place.sender) || check_suite.app?.id !== appId) return null;
  return { ...place, type: "pressed", button: "again", run: null, sha: check_suite.head_sha };
}

/** Trimo's own checks never trigger Trimo; their *Re-run* comes as a check run's. */
function readSuite(payload: unknown, appId: number): CiOver | null {
  const place = here(payload);
  const { check_suite } = z
    .object({
      check_suite: z.object({
        head_sha: Sha,
        head_branch: z.string().nullish(),
        conclusion: z.string().nullish(),
        app: z.object({ id: z.number().nullish(), name: z.string().nullish() }).nullish(),
      }),
    })
    .parse(payload);
  if (!place || !check_suite.head_branch || check_suite.app?.id === appId) return null;
  return {
    ...place,
    type: "ci",
    sha: check_suite.head_sha,
    branch: check_suite.head_branch,
    failed: ["failure", "timed_out", "startup_failure"].includes(check_suite.conclusion ?? ""),
    app: check_suite.app?.name ?? "CI",
  };
}

function readPullEnd(type: "pull_closed" | "pull_reopened", payload: unknown): PullEnded | null {
  const place = here(payload);
  if (!place) return null;
  const { pull_request } = PullIn.parse(payload);
  const merged = pull_request.merged === true;
  return { ...place, type, pull: pull_request.number, merged, issue: asIssue(pull_request) };
}

function readPullChange(payload: unknown): PullChanged | null {
  const place = here(payload);
  if (!place) return null;
  const { number, head, base, node_id, draft } = PullIn.parse(payload).pull_request;
  return {
    ...place,
    type: "pull_changed",
    pull: number,
    sha: head.sha,
    base: base?.ref ?? place.repository.defaultBranch,
    branch: head.repo?.id === place.repository.id ? head.ref : null,
    nodeId: node_id ?? "",
    draft: draft === true,
  };
}

function readPush(payload: unknown): Pushed | null {
  const place = here(payload);
  const push = z
    .object({
      ref: z.string(),
      after: Sha,
      deleted: z.boolean().nullish(),
      forced: z.boolean().nullish(),
      commits: z
        .array(
          z.object({
            added: z.array(z.string()).nullish(),
            modified: z.array(z.string()).nullish(),
            removed: z.array(z.string()).nullish(),
          }),
        )
        .nullish(),
    })
    .parse(payload);
  const branch = /^refs\/heads\/(.+)$/.exec(push.ref)?.[1];
  if (!place || !branch) return null;
  const touched = (push.commits ?? []).flatMap((commit) => [
    ...(commit.added ?? []),
    ...(commit.modified ?? []),
    ...(commit.removed ?? []),
  ]);
  return {
    ...place,
    type: "pushed",
    branch,
    sha: push.deleted ? null : push.after,
    forced: push.forced === true,
    touchesConfig: touched.includes(trimoYmlPath),
  };
}

function readRepository(
  change: RepositoryChanged["change"],
  payload: unknown,
): RepositoryChanged | null {
  const place = here(payload);
  return place ? { ...place, type: "repository_changed", change } : null;
}

function readInstallation(state: WorkspaceChanged["state"], payload: unknown): WorkspaceChanged {
  const { installation } = z
    .object({
      installation: z.object({
        id: z.number(),
        account: z.object({ login: z.string().nullish(), slug: z.string().nullish() }).nullish(),
      }),
    })
    .parse(payload);
  const account = installation.account?.login ?? installation.account?.slug ?? "";
  return { type: "workspace_changed", workspace: installation.id, account, state };
}

function readRemoved(payload: unknown): RepositoriesRemoved {
  const { installation, repositories_removed } = z
    .object({
      installation: z.object({ id: z.number() }),
      repositories_removed: z.array(z.object({ id: z.number() })),
    })
    .parse(payload);
  const ids = repositories_removed.map((repository) => repository.id);
  return { type: "repositories_removed", workspace: installation.id, ids };
}
