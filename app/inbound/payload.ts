import { z } from "zod";
import type {
  ButtonEvent,
  CiEvent,
  CommentEvent,
  InstallationEvent,
  IssueGoneEvent,
  LabelEvent,
  PullChangeEvent,
  PullEndEvent,
  PushEvent,
  RemovalEvent,
  RepositoryEvent,
} from "../github/github-event.ts";
import { type Issue, isBot } from "../github/objects.ts";
import { trimoYmlPath } from "../protocol/trimo-yml.ts";

// A delivery's payload → what it says, or null when it is none of Trimo's business: apps' and bots'
// words, Trimo's own doings. `appId` is Trimo's. Each reader throws a ZodError for a payload that is not
// GitHub's.

/** Reads one kind of event. */
export type Reader<Event> = (payload: unknown, appId: number) => Event | null;

const Envelope = z.looseObject({ action: z.string().nullish() });

/**
 * Reads what every payload has: an object, and by its action the handler is found.
 *
 * @throws ZodError when it is no payload of GitHub's, which would find no handler and look handled.
 */
export const readEnvelope = (payload: unknown) => Envelope.parse(payload);

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

/** Null: no installation is named, so the delivery is none of this App's. */
function placeOf(payload: unknown) {
  const parsed = HereIn.partial().parse(payload);
  const { installation, repository, sender } = parsed;
  if (!installation || !repository || !sender) return null;
  return { workspace: installation.id, repository, sender };
}

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

/** A label on an issue or pull request. */
export const readLabel =
  (type: LabelEvent["type"]): Reader<LabelEvent> =>
  (payload) =>
    labelEvent(type, payload);

function labelEvent(type: LabelEvent["type"], payload: unknown): LabelEvent | null {
  const place = placeOf(payload);
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

/** In whole seconds, as GitHub tells times: what is finer cannot be compared. */
function timeOf(text: string | null | undefined): number | null {
  const at = Date.parse(text ?? "");
  return Number.isNaN(at) ? null : Math.floor(at / 1_000) * 1_000;
}

/** An issue that left its repository. */
export const readIssueGone =
  (change: IssueGoneEvent["change"]): Reader<IssueGoneEvent> =>
  (payload) =>
    issueGoneEvent(change, payload);

function issueGoneEvent(change: IssueGoneEvent["change"], payload: unknown): IssueGoneEvent | null {
  const place = placeOf(payload);
  if (!place) return null;
  const { issue } = z.object({ issue: IssueIn }).parse(payload);
  return { ...place, type: "issue_gone", issue, change };
}

/** A comment under an issue or pull request. */
export function readComment(payload: unknown, appId: number): CommentEvent | null {
  const place = placeOf(payload);
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
  const said = { type: "comment" as const, where: "comment" as const, spot: null };
  const { id, body } = comment;
  const at = timeOf(comment.created_at);
  return { ...place, ...said, issue, id, body: body ?? "", wantsChanges: false, at };
}

/** A review as a whole. */
export function readReview(payload: unknown): CommentEvent | null {
  const place = placeOf(payload);
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
  const said = { type: "comment" as const, where: "review" as const, spot: null, wantsChanges };
  const at = timeOf(review.submitted_at);
  return { ...place, ...said, issue, id: review.id, body: review.body ?? "", at };
}

/** A comment at lines of a diff. */
export function readReviewComment(payload: unknown, appId: number): CommentEvent | null {
  const place = placeOf(payload);
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
  const said = { type: "comment" as const, where: "line" as const, spot, wantsChanges: false };
  const at = timeOf(comment.created_at);
  return { ...place, ...said, issue, id: comment.id, body: comment.body ?? "", at };
}

/** A button, or *Re-run*, at a check of Trimo's. */
export function readButton(payload: unknown, appId: number): ButtonEvent | null {
  const place = placeOf(payload);
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
  return { ...place, type: "button", button: identifier, run, sha };
}

/** *Re-run all checks* at a commit. */
export function readSuiteAgain(payload: unknown, appId: number): ButtonEvent | null {
  const place = placeOf(payload);
  const { check_suite } = z
    .object({ check_suite: z.object({ head_sha: Sha, app: AppIn }) })
    .parse(payload);
  if (!place || isBot(place.sender) || check_suite.app?.id !== appId) return null;
  return { ...place, type: "button", button: "again", run: null, sha: check_suite.head_sha };
}

/** The checks of another app. Trimo's own never trigger Trimo; their *Re-run* comes as a check run's. */
export function readSuite(payload: unknown, appId: number): CiEvent | null {
  const place = placeOf(payload);
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

/** A pull request that was closed or opened again. */
export const readPullEnd =
  (type: PullEndEvent["type"]): Reader<PullEndEvent> =>
  (payload) =>
    pullEndEvent(type, payload);

function pullEndEvent(type: PullEndEvent["type"], payload: unknown): PullEndEvent | null {
  const place = placeOf(payload);
  if (!place) return null;
  const { pull_request } = PullIn.parse(payload);
  const merged = pull_request.merged === true;
  return { ...place, type, pull: pull_request.number, merged, issue: asIssue(pull_request) };
}

/** A pull request that was opened or has new commits. */
export function readPullChange(payload: unknown): PullChangeEvent | null {
  const place = placeOf(payload);
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

/** A push to a branch, or its deletion. */
export function readPush(payload: unknown): PushEvent | null {
  const place = placeOf(payload);
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
    type: "push",
    branch,
    sha: push.deleted ? null : push.after,
    forced: push.forced === true,
    touchesConfig: touched.includes(trimoYmlPath),
  };
}

/** A repository with another name or owner, or gone. */
export const readRepository =
  (change: RepositoryEvent["change"]): Reader<RepositoryEvent> =>
  (payload) => {
    const place = placeOf(payload);
    return place ? { ...place, type: "repository", change } : null;
  };

/** The App, installed, suspended or uninstalled. */
export const readInstallation =
  (state: InstallationEvent["state"]): Reader<InstallationEvent> =>
  (payload) =>
    installationEvent(state, payload);

function installationEvent(state: InstallationEvent["state"], payload: unknown): InstallationEvent {
  const { installation } = z
    .object({
      installation: z.object({
        id: z.number(),
        account: z.object({ login: z.string().nullish(), slug: z.string().nullish() }).nullish(),
      }),
    })
    .parse(payload);
  const account = installation.account?.login ?? installation.account?.slug ?? "";
  return { type: "installation", workspace: installation.id, account, state };
}

/** Repositories that the App was taken off. */
export function readRemoved(payload: unknown): RemovalEvent {
  const { installation, repositories_removed } = z
    .object({
      installation: z.object({ id: z.number() }),
      repositories_removed: z.array(z.object({ id: z.number() })),
    })
    .parse(payload);
  const ids = repositories_removed.map((repository) => repository.id);
  return { type: "removal", workspace: installation.id, ids };
}
