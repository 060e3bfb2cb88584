// What Trimo knows of GitHub's objects, in its own names. Times are in milliseconds since 1970.

/** A person, or what acts in a person's place. */
export type Sender = { login: string; type: string };
/** Whether this is an app or bot, whose words start nothing. */
export const isBot = (sender: Sender): boolean =>
  sender.type === "Bot" || sender.login.endsWith("[bot]");
/** `fullName`: `owner/name`. */
export type Repository = { id: number; fullName: string; defaultBranch: string };
export type FoundRepository = Repository & { archived: boolean };

/** An issue, or a pull request in its role as one. */
export type Issue = {
  number: number;
  title: string;
  body: string;
  open: boolean;
  isPull: boolean;
  labels: string[];
  /** How many comments it has. */
  comments: number;
};
export type FoundIssue = Pick<Issue, "number" | "title" | "body" | "comments" | "labels">;

/** Where in a diff a review comment stands; `hunk` as GitHub cuts it. */
export type Spot = { path: string; from: number | null; to: number | null; hunk: string };

/** What a person said under an issue or pull request. */
export type Remark = {
  by: string;
  bot: boolean;
  body: string;
  at: number;
  editedAt: number;
  spot: Spot | null;
  /** The review it is, or belongs to; null: none. */
  review: number | null;
};

/** The buttons of a completed check run. */
export type Button = "again" | "fix" | "continue";
export type Conclusion =
  | "success"
  | "failure"
  | "neutral"
  | "cancelled"
  | "timed_out"
  | "action_required";
/** A line of a file, with what a verify command said of it. */
export type Annotation = { path: string; line: number; message: string };
/** At most 20, 40 and 20 characters long (REST docs, "Create a check run"). */
export type Action = { label: string; description: string; identifier: Button };
/** A check run as it is to look; times in ISO 8601. */
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
/** A check of another app that failed, with its own words. */
export type FailedCheck = { name: string; result: string; output: string };

type PullState = "draft" | "open" | "closed";
export type Pull = { number: number; nodeId: string; state: PullState; body: string };
export type PullDetails = {
  nodeId: string;
  title: string;
  state: PullState;
  merged: boolean;
  /** `repository`: `owner/name`; null: it was deleted. */
  head: { repository: string | null; branch: string; sha: string };
  base: { branch: string; sha: string };
};

/** One attempt of GitHub's to deliver a webhook. */
export type DeliveryAttempt = {
  id: number;
  guid: string;
  deliveredAt: number;
  /** The HTTP status of the app's answer; 0: GitHub had none. */
  status: number;
};
/** Under whom commits are made. */
export type Author = { name: string; email: string };
/** How one commit stands to another. */
export type Comparison = {
  status: "identical" | "ahead" | "behind" | "diverged";
  /** Commits that the second has and the first has not. */
  ahead: number;
  /** The commit that both come from. */
  mergeBase: string;
};
