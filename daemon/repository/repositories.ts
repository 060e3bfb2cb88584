import type { IncomingMessage, ServerResponse } from "node:http";

// The seam in front of git: what a run asks of repositories, so that a simulation can stand here.

/** What a fetch found. */
export type Fetched = {
  /** The mirror's folder, a bare repository. */
  folder: string;
  /** The default branch, which is never a run's; null: the remote does not say. */
  defaultBranch: string | null;
  /** The default branch's commit, as the remote's HEAD says it; never as the app does. */
  defaultSha: string;
  /** The pipeline's branch; null: it does not exist yet. */
  branchSha: string | null;
  /** `.github/trimo.yml` at the default branch; null: there is none. */
  trimoYml: string | null;
};

/** What is known of a repository without a fetch. */
export type Known = Pick<Fetched, "folder" | "defaultSha" | "trimoYml">;

/** What the default branch has and the run's branch has not; `conflicts` is null where git cannot say. */
export type Drift = { behind: number; conflicts: string[] | null };

export type FetchRequest = { repository: string; branch: string; token: string };

export type GateRequest = {
  /** The gate's own folder. */
  folder: string;
  /** `owner/name`. */
  repository: string;
  /** The one branch it serves. */
  branch: string;
};

/** Commits of a run that were kept: a git bundle at `path`, or a whole gate. `beside`: where they go. */
export type KeptCommits = { repository: string; branch: string; path: string; beside: string };

export type PushResult = "pushed" | "moved" | { refused: string } | { unreachable: string };

/** How a commit of Trimo's own is made. */
export type Author = { message: string; name: string; email: string };

/**
 * The bare repository of one run, outside the container: what the container clones from and all it can
 * push to.
 */
export interface Gate {
  /** Gives the branch's commit in the gate. */
  head(): Promise<string>;
  /** Lists the commits between two states, oldest first; of their messages the first line. */
  commitsBetween(from: string, to: string): Promise<{ sha: string; subject: string }[]>;
  /**
   * Pushes `sha` on to GitHub, forward and never by force; `branch`: the gate's own unless named. Ended when
   * `signal` aborts.
   */
  push(
    sha: string,
    token: string,
    how?: { branch?: string | undefined; signal?: AbortSignal },
  ): Promise<PushResult>;
  /** Gives the commit that GitHub has on the branch now; null: the branch is not there. */
  remoteHead(token: string): Promise<string | null>;
  /** Whether what GitHub has on the branch now has `sha` in its history. */
  remoteContains(sha: string, token: string): Promise<boolean>;
  /** Writes the branch's commits since `base` as a git bundle; GitHub has `base` and all before it. */
  bundle(path: string, base: string): Promise<void>;
  /**
   * Commits onto the branch what the container's last snapshot has beyond it; a path that was committed since
   * stays as it was committed. Gives when the snapshot was taken, in milliseconds since 1970; null: there is
   * none, or nothing that the branch has not.
   */
  recoverSnapshot(by: Author): Promise<number | null>;
  /** Answers the container's git; `pushed` is called when a push may have changed the branch. */
  serve(request: IncomingMessage, response: ServerResponse, pushed: () => void): void;
}

/** The repositories of one GitHub host on this machine. Every method throws GitError. */
export interface Repositories {
  /** Brings the mirror of a repository up to date for one branch. */
  fetch(request: FetchRequest, signal: AbortSignal): Promise<Fetched>;
  /** Gives what the last fetch found, perhaps by an earlier daemon; null when there was none. */
  known(repository: string): Promise<Known | null>;
  /** Gives null where the branch has all of the default branch; nothing is merged. */
  drift(fetched: Fetched, signal: AbortSignal): Promise<Drift | null>;
  /** Makes a gate whose branch is at `sha`, from a mirror; one that was there is replaced. */
  makeGate(request: GateRequest, mirror: string, sha: string): Promise<Gate>;
  /** Opens a gate that was made before. */
  openGate(request: GateRequest): Gate;
  /**
   * Packs each mirror that was not packed for a week, and removes what its repository has no more and broken ones.
   * Only while nothing on this machine leans on a mirror. `now`: in milliseconds since 1970.
   */
  tidy(now: number, signal: AbortSignal): Promise<void>;
  /** Pushes what was kept of a run, to a branch beside its own. */
  pushKept(kept: KeptCommits, token: string, signal: AbortSignal): Promise<PushResult>;
}
