import type { Probot } from "../github/app.ts";
import { button } from "../intents/button.ts";
import { ci } from "../intents/ci.ts";
import { comment } from "../intents/comment.ts";
import type { Parts } from "../intents/intent.ts";
import { label } from "../intents/label.ts";
import {
  installationChanged,
  issueGone,
  pullChanged,
  pullClosed,
  pullReopened,
  pushed,
  repositoriesRemoved,
  repositoryChanged,
} from "../intents/lifecycle.ts";
import {
  type Reader,
  readButton,
  readComment,
  readInstallation,
  readIssueGone,
  readLabel,
  readPullChange,
  readPullEnd,
  readPush,
  readRemoved,
  readRepository,
  readReview,
  readReviewComment,
  readSuite,
  readSuiteAgain,
} from "./payload.ts";

/** Takes an event; `guid` is its delivery's and makes the effect happen once. */
type Handler<Event> = (parts: Parts, guid: string, event: Event) => Promise<void>;
type Route = { read: Reader<unknown>; handle: Handler<never> };

const on = <Event>(read: Reader<Event>, handle: Handler<Event>): Route => ({ read, handle });

/** Every event Trimo hears: how its payload is read, and who takes it. */
export const routes = {
  "issues.labeled": on(readLabel("labeled"), label),
  "issues.unlabeled": on(readLabel("unlabeled"), label),
  "pull_request.labeled": on(readLabel("labeled"), label),
  "pull_request.unlabeled": on(readLabel("unlabeled"), label),
  "issue_comment.created": on(readComment, comment),
  "pull_request_review.submitted": on(readReview, comment),
  "pull_request_review_comment.created": on(readReviewComment, comment),
  "check_run.requested_action": on(readButton, button),
  "check_run.rerequested": on(readButton, button),
  "check_suite.rerequested": on(readSuiteAgain, button),
  "check_suite.completed": on(readSuite, ci),
  "pull_request.closed": on(readPullEnd("pull_closed"), pullClosed),
  "pull_request.reopened": on(readPullEnd("pull_reopened"), pullReopened),
  "pull_request.opened": on(readPullChange, pullChanged),
  "pull_request.synchronize": on(readPullChange, pullChanged),
  push: on(readPush, pushed),
  "issues.deleted": on(readIssueGone("deleted"), issueGone),
  "issues.transferred": on(readIssueGone("transferred"), issueGone),
  "repository.renamed": on(readRepository("renamed"), repositoryChanged),
  "repository.transferred": on(readRepository("transferred"), repositoryChanged),
  "repository.archived": on(readRepository("archived"), repositoryChanged),
  "repository.deleted": on(readRepository("deleted"), repositoryChanged),
  "installation.created": on(readInstallation("active"), installationChanged),
  "installation.unsuspend": on(readInstallation("active"), installationChanged),
  "installation.suspend": on(readInstallation("suspended"), installationChanged),
  "installation.deleted": on(readInstallation("gone"), installationChanged),
  "installation_repositories.removed": on(readRemoved, repositoriesRemoved),
} as const satisfies Record<string, Route>;

/** Trimo as a Probot app function: registers a handler for each event it hears. */
export function events(parts: Parts): (app: Probot) => void {
  return (app) => {
    for (const [name, { read, handle }] of Object.entries(routes) as [keyof typeof routes, Route][])
      app.on(name, async ({ id, payload }) => {
        const event = read(payload, parts.github.appId);
        if (event !== null) await handle(parts, id, event as never);
      });
  };
}
