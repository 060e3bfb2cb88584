import type { Button, Issue, Repository, Sender, Spot } from "./objects.ts";

// What happened on GitHub, as far as Trimo cares. inbound/payload.ts reads these out of deliveries, one
// handler of intents/ takes each. Times are in milliseconds since 1970; null where GitHub does not say.

/** Where something happened, and who did it. */
type Source = { workspace: number; repository: Repository; sender: Sender };

/** A label was put on an issue or pull request, or taken off. */
export type LabelEvent = Source & {
  type: "labeled" | "unlabeled";
  issue: Issue;
  label: string;
  at: number | null;
};

/** Somebody wrote a comment or a review. */
export type CommentEvent = Source & {
  type: "comment";
  /** `comment` under an issue or pull request, at a `line` of a diff, or a `review` as a whole. */
  where: "comment" | "line" | "review";
  issue: Issue;
  id: number;
  body: string;
  spot: Spot | null;
  /** It is a review that asks for changes. */
  wantsChanges: boolean;
  at: number | null;
};

/** A button or *Re-run* at a check of Trimo's was pressed. */
export type ButtonEvent = Source & {
  type: "button";
  button: Button;
  /** The run whose check it is; null: all checks of the commit. */
  run: string | null;
  sha: string;
};

/** All checks of another app on a commit have ended. */
export type CiEvent = Source & {
  type: "ci";
  sha: string;
  branch: string;
  failed: boolean;
  app: string;
};

/** A pull request was closed, merged or not, or opened again. */
export type PullEndEvent = Source & {
  type: "pull_closed" | "pull_reopened";
  pull: number;
  merged: boolean;
  issue: Issue;
};

/** A pull request was opened, or has new commits. */
export type PullChangeEvent = Source & {
  type: "pull_changed";
  pull: number;
  sha: string;
  base: string;
  /** Its branch where that is of this repository; null: a fork's. */
  branch: string | null;
  nodeId: string;
  draft: boolean;
};

/** Commits were pushed to a branch, or it was deleted. */
export type PushEvent = Source & {
  type: "push";
  branch: string;
  /** Null: the branch was deleted. */
  sha: string | null;
  forced: boolean;
  touchesConfig: boolean;
};

/** An issue is gone from its repository. */
export type IssueGoneEvent = Source & {
  type: "issue_gone";
  issue: Issue;
  change: "deleted" | "transferred";
};

/** A repository has another name or owner, or is gone. */
export type RepositoryEvent = Source & {
  type: "repository";
  change: "renamed" | "transferred" | "archived" | "deleted";
};

/** The App was installed, suspended or uninstalled. */
export type InstallationEvent = {
  type: "installation";
  workspace: number;
  account: string;
  state: "active" | "suspended" | "gone";
};

/** The App was taken off repositories. */
export type RemovalEvent = { type: "removal"; workspace: number; ids: number[] };
