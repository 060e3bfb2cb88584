import { type Api, newestRows, sinceOf, split } from "./api.ts";
import { orNull } from "./error.ts";
import type { Author, FoundIssue, Remark } from "./objects.ts";

/** The most remarks of one kind under one issue; older ones of a longer thread are left out. */
export const remarksMax = 500;

/** Issues, comments, labels and reactions. `repository`: `owner/name`. Every method rejects with GitHubError. */
export type Issues = {
  /** Comments of an issue or pull request that were made or edited since (milliseconds since 1970). */
  comments(repository: string, issue: number, since: number): Promise<Remark[]>;
  /** The names of the labels that are on an issue or pull request. */
  labels(repository: string, issue: number): Promise<string[]>;
  /** A page of open issues, by a search in GitHub's own words; the oldest first. `more`: it was full. */
  search(
    repository: string,
    query: string,
    which: { page: number; most: number },
  ): Promise<{ issues: FoundIssue[]; more: boolean }>;
  /** A comment of the App's own that holds these words, made since (ISO 8601); null: there is none. */
  findComment(
    repository: string,
    issue: number,
    marker: string,
    since: string,
  ): Promise<number | null>;
  createComment(repository: string, issue: number, body: string): Promise<number>;
  updateComment(repository: string, id: number, body: string): Promise<void>;
  /** Puts 👀 on a comment, or on a comment at a line of a diff. */
  react(repository: string, commentId: number, where: "comment" | "line"): Promise<void>;
  /** Nothing to do when it is not there. */
  removeLabel(repository: string, issue: number, label: string): Promise<void>;
};

/** Issues through one installation. `appId` and `author` say which comments are the App's own. */
export function createIssues(api: Api, appId: number, author: () => Promise<Author>): Issues {
  return {
    ...createLabels(api),
    comments: (repository, issue_number, since) =>
      api(async (o) => {
        const where = { ...split(repository), issue_number, ...sinceOf(since), per_page: 100 };
        const pages = o.paginate.iterator(o.rest.issues.listComments, where);
        return (await newestRows(pages, remarksMax)).map((row) =>
          toRemark(row, row.created_at, row.updated_at, null),
        );
      }),
    search: (repository, query, { page, most }) =>
      api(async (o) => {
        // Ours last: of two contradicting words GitHub takes the last.
        const asked = /\bOR\b/.test(query) ? `(${query})` : query;
        const q = `${asked} repo:${repository} is:issue is:open`;
        const { data } = await o.rest.search.issuesAndPullRequests({
          q,
          sort: "created",
          order: "asc",
          per_page: Math.min(100, most),
          page,
        });
        // Whatever a query makes of ours, another repository's issue is none of this one's work.
        const own = `/repos/${repository}`.toLowerCase();
        const items = data.items.filter((item) => item.repository_url.toLowerCase().endsWith(own));
        const issues = items.map((item) => ({
          number: item.number,
          title: item.title,
          body: item.body ?? "",
          comments: item.comments,
          labels: item.labels.flatMap((label) => label.name ?? []),
        }));
        return { issues, more: data.items.length >= most };
      }),
    findComment: (repository, issue, marker, since) =>
      api(async (o) => {
        // A person who quotes a comment of ours quotes its marker too.
        const me = await author();
        const where = { ...split(repository), issue_number: issue, since, per_page: 100 };
        for await (const page of o.paginate.iterator(o.rest.issues.listComments, where)) {
          const found = page.data.find(
            ({ user, body, performed_via_github_app: app }) =>
              (app?.id === appId || user?.login === me.name) && body?.includes(marker),
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
  };
}

function createLabels(api: Api): Pick<Issues, "labels" | "removeLabel"> {
  return {
    labels: (repository, issue_number) =>
      api(async (o) => {
        const { data } = await o.rest.issues.get({ ...split(repository), issue_number });
        return data.labels.flatMap((one) => (typeof one === "string" ? one : (one.name ?? [])));
      }),
    removeLabel: (repository, issue, name) =>
      api(async (o) => {
        await orNull(
          o.rest.issues.removeLabel({ ...split(repository), issue_number: issue, name }),
        );
      }),
  };
}

/** A row of GitHub's as a remark; times as GitHub writes them. */
export function toRemark(
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
