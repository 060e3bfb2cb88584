import { type Api, newestRows, sinceOf, split } from "./api.ts";
import { remarksMax, toRemark } from "./issues.ts";
import type { Pull, PullDetails, Remark } from "./objects.ts";

/** Pull requests and their reviews. `repository`: `owner/name`. Every method rejects with GitHubError. */
export type Pulls = {
  /** The open pull request of a branch; null: there is none. */
  findPull(repository: string, branch: string): Promise<Pull | null>;
  pull(repository: string, number: number): Promise<Pull>;
  pullDetails(repository: string, number: number): Promise<PullDetails>;
  createPull(
    repository: string,
    pull: { title: string; body: string; head: string; base: string; draft: boolean },
  ): Promise<Pull>;
  updatePull(
    repository: string,
    number: number,
    changes: { body?: string; state?: "closed" },
  ): Promise<Pull>;
  /** Makes a draft ready for review, by its node id. */
  markReady(nodeId: string): Promise<void>;
  reviews(repository: string, pull: number): Promise<Remark[]>;
  /** Comments at lines that were made or edited since (milliseconds since 1970). */
  reviewComments(repository: string, pull: number, since: number): Promise<Remark[]>;
};

/** Pull requests through one installation. */
export function createPulls(api: Api): Pulls {
  return {
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
    pullDetails: (repository, number) =>
      api(async (o) => {
        const where = { ...split(repository), pull_number: number };
        const { data } = await o.rest.pulls.get(where);
        const { head, base, node_id, title, merged } = data;
        return {
          nodeId: node_id,
          title,
          state: toPull(data).state,
          merged,
          head: { repository: head.repo?.full_name ?? null, branch: head.ref, sha: head.sha },
          base: { branch: base.ref, sha: base.sha },
        };
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
    reviews: (repository, pull_number) =>
      api(async (o) => {
        const where = { ...split(repository), pull_number, per_page: 100 };
        const pages = o.paginate.iterator(o.rest.pulls.listReviews, where);
        return (await newestRows(pages, remarksMax)).map((row) => ({
          ...toRemark(row, row.submitted_at ?? "", row.submitted_at ?? "", null),
          review: row.id,
        }));
      }),
    reviewComments: (repository, pull_number, since) =>
      api(async (o) => {
        const where = { ...split(repository), pull_number, ...sinceOf(since), per_page: 100 };
        const pages = o.paginate.iterator(o.rest.pulls.listReviewComments, where);
        return (await newestRows(pages, remarksMax)).map((row) => {
          const to = row.line ?? row.original_line ?? null;
          const spot = { path: row.path, from: row.start_line ?? to, to, hunk: row.diff_hunk };
          const remark = toRemark(row, row.created_at, row.updated_at, spot);
          return { ...remark, review: row.pull_request_review_id };
        });
      }),
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
