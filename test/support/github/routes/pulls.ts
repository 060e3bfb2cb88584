import type { Json } from "../objects.ts";
import { bot } from "../state.ts";
import { type Answer, type Call, type Overlay, ok, type Route, type World } from "./route.ts";

/** Reviews and their comments, and what GitHub refuses before a pull request is opened. */
export const pulls: Route = async (call, world) => {
  const { fullName, route, query } = call;
  if (route === "POST pulls") return await refusePull(call, world);
  const [, number, kind] = /^GET pulls\/(\d+)\/(reviews|comments)$/.exec(route) ?? [];
  const { reviews, reviewComments } = world.state;
  const mine = (row: { fullName: string; pull: number }) =>
    row.fullName === fullName && row.pull === Number(number);
  const since = query.get("since") ?? "";
  if (kind === "reviews") return ok(reviews.filter(mine));
  if (kind === "comments")
    return ok(reviewComments.filter((row) => mine(row) && row.created_at >= since));
  return null;
};

/** GitHub opens no pull request for a missing branch, without commits, or twice. */
async function refusePull({ fullName, body }: Call, { state, pulls }: World) {
  const { head, base } = body as { head: string; base: string };
  const { repositories } = state;
  const invalid = (message: string): Answer => ({
    status: 422,
    body: { message: "Validation Failed", errors: [{ message }] },
  });
  const sha = await repositories.resolve(fullName, `refs/heads/${head}`);
  if (!sha) return invalid("head is invalid");
  if ((await repositories.git(fullName, ["rev-list", "--count", `${base}..${sha}`])) === "0")
    return invalid(`No commits between ${base} and ${head}`);
  const open = await pulls(fullName, "open");
  return open.some((pull) => pull.head.ref === head)
    ? invalid(`A pull request already exists for ${head}`)
    : null;
}

/** Head, base, commits and draft, which only git and the front know; and the deliveries for it. */
export const pullsFromGit: Overlay = async (answer, call, world) => {
  const { fullName, route, holder } = call;
  remember(fullName, answer, world);
  const fix = async (pull: Json) => await withGit(fullName, pull, world);
  if (route === "GET pulls")
    return { ...answer, body: await Promise.all((answer.body as Json[]).map(fix)) };
  if (!/^(POST pulls|(GET|PATCH) pulls\/\d+)$/.test(route)) return answer;
  const pull = answer.body as Json;
  const opened = route === "POST pulls";
  if (opened) world.state.drafts.set(`${fullName}#${pull.number}`, pull.draft === true);
  const body = await fix(pull);
  const closed = route.startsWith("PATCH") && pull.state === "closed";
  // GitHub tells the App also of what it did itself.
  if (holder.kind === "installation" && (closed || opened)) {
    const action = closed ? "closed" : "opened";
    const payload = { action, number: body.number, pull_request: { ...body, merged: false } };
    // The stand-in may be stopped before it has told.
    world.deliveries.send("pull_request", bot.login, fullName, payload).catch(() => {});
  }
  return { ...answer, body };
};

/** A pull request is an issue as well, which emulate does not know. */
export const pullAsIssue: Route = async ({ fullName, route }, { pulls }) => {
  const number = Number(/^GET issues\/(\d+)$/.exec(route)?.[1] ?? 0);
  if (number === 0) return null;
  const pull = (await pulls(fullName, "all")).find((one) => one.number === number);
  return pull ? ok({ ...pull, pull_request: {} }) : null;
};

function remember(fullName: string, { body }: Answer, { state }: World) {
  for (const found of [body].flat() as (Json | null)[])
    if (found?.number && typeof found.node_id === "string" && found.head)
      state.pullByNode.set(found.node_id, `${fullName}#${found.number}`);
}

async function withGit(fullName: string, pull: Json, { state }: World): Promise<Json> {
  const { repositories, lastHeads, drafts, merged } = state;
  const head = pull.head as { ref: string; sha: string; repo?: Json };
  const base = pull.base as { ref: string; sha: string; repo?: Json };
  const key = `${fullName}#${pull.number}`;
  const found = await repositories.resolve(fullName, `refs/heads/${head.ref}`);
  // A pull request remembers its head when the branch is gone.
  if (found) lastHeads.set(key, found);
  const sha = found ?? lastHeads.get(key) ?? head.sha;
  const baseSha = (await repositories.resolve(fullName, `refs/heads/${base.ref}`)) ?? base.sha;
  const commits = await repositories
    .git(fullName, ["rev-list", "--count", `${baseSha}..${sha}`])
    .catch(() => "0");
  return {
    ...pull,
    draft: drafts.get(key) ?? false,
    merged: merged.has(key),
    head: { ...head, sha, repo: head.repo ?? { full_name: fullName } },
    base: { ...base, sha: baseSha },
    commits: Number(commits),
  };
}

/** The one mutation that GitHub has only in GraphQL. */
export const graphql: Route = async ({ path, body }, { state }) => {
  if (path !== "/graphql") return null;
  const { query, variables } = body as { query: string; variables: { id: string } };
  if (!query.includes("markPullRequestReadyForReview"))
    return ok({ errors: [{ message: "not understood" }] });
  const key = state.pullByNode.get(variables.id);
  if (!key) return ok({ errors: [{ type: "NOT_FOUND", message: "Could not resolve to a node" }] });
  state.drafts.set(key, false);
  return ok({ data: { markPullRequestReadyForReview: { pullRequest: { isDraft: false } } } });
};
