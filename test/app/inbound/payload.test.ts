import examples from "@octokit/webhooks-examples";
import { expect, test } from "vitest";
import type * as GitHubEvent from "../../../app/github/github-event.ts";
import { isBot } from "../../../app/github/objects.ts";
import { routes } from "../../../app/inbound/events.ts";
import type { Reader } from "../../../app/inbound/payload.ts";
import { readEnvelope } from "../../../app/inbound/payload.ts";

// What each delivery says to Trimo. GitHub's own examples come from @octokit/webhooks-examples, which
// Octokit collects from GitHub's documentation and from real deliveries.

const appId = 4242;
type Happening =
  | GitHubEvent.LabelEvent
  | GitHubEvent.CommentEvent
  | GitHubEvent.ButtonEvent
  | GitHubEvent.CiEvent
  | GitHubEvent.PullEndEvent
  | GitHubEvent.PullChangeEvent
  | GitHubEvent.PushEvent
  | GitHubEvent.IssueGoneEvent
  | GitHubEvent.RepositoryEvent
  | GitHubEvent.InstallationEvent
  | GitHubEvent.RemovalEvent;
const readers: Record<string, { read: Reader<unknown> } | undefined> = routes;
/** As Probot does: by the event's name and action where somebody takes them, or by its name alone. */
function readPayload(event: string, payload: object): Happening | null {
  const action = "action" in payload ? payload.action : null;
  const route = readers[`${event}.${action}`] ?? readers[event];
  return route ? (route.read(payload, appId) as Happening | null) : null;
}

const sha = "a".repeat(40);
const installation = { id: 77 };
const repository = { id: 7, full_name: "acme/app", default_branch: "main" };
const ana = { login: "ana", type: "User" };
const bot = { login: "renovate[bot]", type: "Bot" };
const own = { login: "trimo[bot]", type: "Bot" };
const issue = { number: 12, title: "Leap second", body: null, state: "open", comments: 1 };
const pull_request = {
  number: 13,
  title: "Mend it",
  body: "x",
  state: "open",
  head: { sha, ref: "trimo/12-leap-second" },
};
const here = { installation, repository, sender: ana };
const comment = { id: 1, body: "/trimo run", created_at: "2026-01-01T00:00:00Z" };
const line = { ...comment, path: "src/a.ts", line: 4, start_line: 2, diff_hunk: "@@ x" };
const check = { external_id: "abcdefghijkm", head_sha: sha, app: { id: appId } };
const suite = { head_sha: sha, head_branch: "trimo/12", conclusion: "failure", app: { id: 1 } };
const push = { ref: "refs/heads/main", after: sha, commits: [] };
const config = ".github/trimo.yml";

type Row = [string, string, object, Partial<Happening> | null];
const table: Row[] = [
  // ── labels ──
  [
    "a label on an issue",
    "issues",
    { ...here, action: "labeled", issue, label: { name: "trimo" } },
    { type: "labeled", label: "trimo" },
  ],
  [
    "a label taken off",
    "issues",
    { ...here, action: "unlabeled", issue, label: { name: "trimo:hold" } },
    { type: "unlabeled" },
  ],
  [
    "a label on a pull request",
    "pull_request",
    { ...here, action: "labeled", pull_request, label: { name: "trimo" } },
    { type: "labeled" },
  ],
  [
    "a bot's label is read; intent.ts passes it over",
    "issues",
    { ...here, sender: bot, action: "labeled", issue, label: { name: "trimo:hold" } },
    { type: "labeled" },
  ],
  ["an issue opened with labels", "issues", { ...here, action: "opened", issue }, null],
  ["an edited issue", "issues", { ...here, action: "edited", issue }, null],
  [
    "a label without an installation",
    "issues",
    { repository, sender: ana, action: "labeled", issue, label: { name: "trimo" } },
    null,
  ],
  // ── words ──
  [
    "a comment",
    "issue_comment",
    { ...here, action: "created", issue, comment },
    { type: "comment", where: "comment", at: 1_767_225_600_000 },
  ],
  [
    "a comment on a pull request",
    "issue_comment",
    { ...here, action: "created", issue: { ...issue, pull_request: {} }, comment },
    { type: "comment" },
  ],
  [
    "a comment through another app, by a person",
    "issue_comment",
    {
      ...here,
      action: "created",
      issue,
      comment: { ...comment, performed_via_github_app: { id: 5 } },
    },
    { type: "comment" },
  ],
  [
    "Trimo's own comment",
    "issue_comment",
    { ...here, sender: own, action: "created", issue, comment },
    null,
  ],
  [
    "a comment made by Trimo in a person's name",
    "issue_comment",
    {
      ...here,
      action: "created",
      issue,
      comment: { ...comment, performed_via_github_app: { id: appId } },
    },
    null,
  ],
  [
    "a bot's comment",
    "issue_comment",
    { ...here, sender: bot, action: "created", issue, comment },
    null,
  ],
  ["an edited comment", "issue_comment", { ...here, action: "edited", issue, comment }, null],
  ["a deleted comment", "issue_comment", { ...here, action: "deleted", issue, comment }, null],
  [
    "a review that approves",
    "pull_request_review",
    {
      ...here,
      action: "submitted",
      pull_request,
      review: { id: 2, body: "ok", state: "approved" },
    },
    { type: "comment", where: "review", wantsChanges: false },
  ],
  [
    "a review that asks for changes",
    "pull_request_review",
    {
      ...here,
      action: "submitted",
      pull_request,
      review: { id: 2, body: null, state: "changes_requested" },
    },
    { type: "comment", wantsChanges: true },
  ],
  [
    "a bot's review",
    "pull_request_review",
    {
      ...here,
      sender: bot,
      action: "submitted",
      pull_request,
      review: { id: 2, body: "/trimo run", state: "changes_requested" },
    },
    null,
  ],
  [
    "a dismissed review",
    "pull_request_review",
    {
      ...here,
      action: "dismissed",
      pull_request,
      review: { id: 2, body: "x", state: "dismissed" },
    },
    null,
  ],
  [
    "a comment in a diff",
    "pull_request_review_comment",
    { ...here, action: "created", pull_request, comment: line },
    { type: "comment", where: "line" },
  ],
  [
    "a comment on a whole file",
    "pull_request_review_comment",
    {
      ...here,
      action: "created",
      pull_request,
      comment: { ...line, line: null, start_line: null },
    },
    { type: "comment" },
  ],
  [
    "an edited comment in a diff",
    "pull_request_review_comment",
    { ...here, action: "edited", pull_request, comment: line },
    null,
  ],
  // ── checks ──
  [
    "a button of ours",
    "check_run",
    {
      ...here,
      action: "requested_action",
      check_run: check,
      requested_action: { identifier: "fix" },
    },
    { type: "button", button: "fix" },
  ],
  [
    "a button that is none of ours",
    "check_run",
    {
      ...here,
      action: "requested_action",
      check_run: check,
      requested_action: { identifier: "deploy" },
    },
    null,
  ],
  [
    "Re-run of ours",
    "check_run",
    { ...here, action: "rerequested", check_run: check },
    { type: "button", button: "again" },
  ],
  [
    "Re-run of another app's",
    "check_run",
    { ...here, action: "rerequested", check_run: { ...check, app: { id: 1 } } },
    null,
  ],
  [
    "Re-run all of ours",
    "check_suite",
    { ...here, action: "rerequested", check_suite: { ...suite, app: { id: appId } } },
    { type: "button", run: null },
  ],
  [
    "a check of ours that ended",
    "check_run",
    { ...here, action: "completed", check_run: check },
    null,
  ],
  [
    "CI that failed",
    "check_suite",
    { ...here, action: "completed", check_suite: suite },
    { type: "ci", failed: true },
  ],
  [
    "CI that passed",
    "check_suite",
    { ...here, action: "completed", check_suite: { ...suite, conclusion: "success" } },
    { type: "ci", failed: false },
  ],
  [
    "our own suite that failed",
    "check_suite",
    { ...here, action: "completed", check_suite: { ...suite, app: { id: appId } } },
    null,
  ],
  [
    "CI without a branch, of a fork",
    "check_suite",
    { ...here, action: "completed", check_suite: { ...suite, head_branch: null } },
    null,
  ],
  // ── pull requests ──
  [
    "a merge",
    "pull_request",
    { ...here, action: "closed", pull_request: { ...pull_request, merged: true } },
    { type: "pull_closed", merged: true },
  ],
  [
    "a merge by a bot",
    "pull_request",
    { ...here, sender: bot, action: "closed", pull_request: { ...pull_request, merged: true } },
    { type: "pull_closed" },
  ],
  [
    "a pull request closed",
    "pull_request",
    { ...here, action: "closed", pull_request },
    { type: "pull_closed", merged: false },
  ],
  [
    "a pull request opened again",
    "pull_request",
    { ...here, action: "reopened", pull_request },
    { type: "pull_reopened" },
  ],
  [
    "new commits",
    "pull_request",
    { ...here, action: "synchronize", pull_request },
    { type: "pull_changed" },
  ],
  ["a changed title", "pull_request", { ...here, action: "edited", pull_request }, null],
  // ── branches ──
  [
    "a push that changes trimo.yml",
    "push",
    { ...here, ...push, commits: [{ modified: [config] }] },
    { type: "push", touchesConfig: true },
  ],
  [
    "a push",
    "push",
    { ...here, ...push, commits: [{ added: ["a"] }] },
    { type: "push", touchesConfig: false, forced: false },
  ],
  ["a force-push", "push", { ...here, ...push, forced: true }, { type: "push", forced: true }],
  [
    "a deleted branch",
    "push",
    { ...here, ...push, after: "0".repeat(40), deleted: true },
    { type: "push", sha: null },
  ],
  ["a tag", "push", { ...here, ...push, ref: "refs/tags/v1" }, null],
  // ── what all stands on ──
  ["a deleted issue", "issues", { ...here, action: "deleted", issue }, { type: "issue_gone" }],
  [
    "a transferred issue",
    "issues",
    { ...here, action: "transferred", issue },
    { type: "issue_gone" },
  ],
  [
    "a renamed repository",
    "repository",
    { ...here, action: "renamed" },
    { type: "repository", change: "renamed" },
  ],
  [
    "a transferred repository",
    "repository",
    { ...here, action: "transferred" },
    { type: "repository" },
  ],
  ["an archived repository", "repository", { ...here, action: "archived" }, { type: "repository" }],
  ["a deleted repository", "repository", { ...here, action: "deleted" }, { type: "repository" }],
  ["a private repository", "repository", { ...here, action: "privatized" }, null],
  [
    "an installation suspended",
    "installation",
    { action: "suspend", installation: { id: 77, account: { login: "acme" } } },
    { type: "installation", state: "suspended" },
  ],
  [
    "an installation taken back",
    "installation",
    { action: "unsuspend", installation: { id: 77, account: { login: "acme" } } },
    { type: "installation", state: "active" },
  ],
  [
    "an installation removed",
    "installation",
    { action: "deleted", installation: { id: 77, account: { login: "acme" } } },
    { type: "installation", state: "gone" },
  ],
  [
    "a repository taken off",
    "installation_repositories",
    { action: "removed", installation, repositories_removed: [{ id: 7 }] },
    { type: "removal", ids: [7] },
  ],
  // ── none of its business ──
  ["a ping", "ping", { zen: "x" }, null],
  ["a star", "star", { ...here, action: "created" }, null],
  ["a workflow job", "workflow_job", { ...here, action: "completed" }, null],
];
test.each(table)("%s", (_, event, payload, expected) => {
  const happening = readPayload(event, payload);
  if (expected === null) expect(happening).toBeNull();
  else expect(happening).toMatchObject(expected);
});

type Example = { name: string; examples: Record<string, unknown>[] };
const ofGitHub = (examples as unknown as Example[]).flatMap(({ name, examples: list }) =>
  list.map((example, index) => [name, index, example] as const),
);

test("the table and GitHub's examples are at least 40 payloads", () => {
  expect(table.length).toBeGreaterThanOrEqual(50);
  expect(ofGitHub.length).toBeGreaterThanOrEqual(200);
});

test("each of GitHub's own examples is read or passed over, and bots' words never start anything", () => {
  const counts: Record<string, number> = {};
  for (const [name, , example] of ofGitHub) {
    // Most examples come from a repository's own webhook, which names no installation.
    const payload = {
      ...example,
      installation: { account: { login: "x" }, id: 77, ...(example.installation as object) },
    };
    const happening = readPayload(name, payload);
    if (!happening) continue;
    counts[`${name} → ${happening.type}`] = (counts[`${name} → ${happening.type}`] ?? 0) + 1;
    if (happening.type === "comment" || happening.type === "button")
      expect(isBot(happening.sender)).toBe(false);
  }
  expect(counts).toMatchObject({
    "issues → labeled": 2,
    "issues → unlabeled": 2,
    "issues → issue_gone": 2,
    "issue_comment → comment": expect.any(Number),
    "pull_request_review → comment": expect.any(Number),
    "pull_request_review_comment → comment": expect.any(Number),
    "check_suite → ci": expect.any(Number),
    "pull_request → pull_closed": 2,
    "pull_request → pull_reopened": 2,
    "push → push": expect.any(Number),
    "repository → repository": expect.any(Number),
    "installation → installation": expect.any(Number),
    "installation_repositories → removal": 1,
  });
});

test.each([
  null,
  [],
  "x",
  { action: 5 },
  { ...here, action: "labeled", issue: {}, label: { name: "x" } },
])("%j is not GitHub's payload of an event of issues: a clear error, never a guess", (payload) => {
  const all = Object.entries(readers).filter(([name]) => name.startsWith("issues."));
  expect(all.length).toBeGreaterThanOrEqual(4);
  for (const [, route] of all) expect(() => route?.read(readEnvelope(payload), appId)).toThrow();
});
