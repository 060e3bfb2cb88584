import { type Api, split } from "./api.ts";
import { orNull, statusOf } from "./error.ts";
import type { Author, Comparison } from "./objects.ts";

/** Files, branches and commits. `repository`: `owner/name`. Every method rejects with GitHubError. */
export type Contents = {
  /** A file's text at a ref; null: it is not there. */
  file(repository: string, path: string, ref: string): Promise<string | null>;
  /** The names in a folder at a ref; none where there is no such folder. */
  list(repository: string, path: string, ref: string): Promise<string[]>;
  /** The commit a branch is at; null: there is no such branch. */
  branchHead(repository: string, branch: string): Promise<string | null>;
  commit(repository: string, sha: string): Promise<{ tree: string; message: string }>;
  /** With the same arguments the same commit, whatever happened to the answer before. `date`: ISO 8601. */
  createCommit(
    repository: string,
    commit: { message: string; tree: string; parent: string; date: string; author: Author },
  ): Promise<string>;
  createBranch(repository: string, branch: string, sha: string): Promise<"created" | "exists">;
  /** Nothing to do when it is gone already. */
  deleteBranch(repository: string, branch: string): Promise<void>;
  /** How `head` stands to `base`; null: one of them is not there. */
  compare(repository: string, base: string, head: string): Promise<Comparison | null>;
};

/** Files, branches and commits through one installation. */
export function createContents(api: Api): Contents {
  return {
    file: (repository, path, ref) =>
      api(async (o) => {
        const answer = await orNull(o.rest.repos.getContent({ ...split(repository), path, ref }));
        if (!answer || Array.isArray(answer.data) || answer.data.type !== "file") return null;
        return Buffer.from(answer.data.content, "base64").toString("utf8");
      }),
    list: (repository, path, ref) =>
      api(async (o) => {
        const answer = await orNull(o.rest.repos.getContent({ ...split(repository), path, ref }));
        return Array.isArray(answer?.data) ? answer.data.map((entry) => entry.name) : [];
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
  };
}
