import type { Person } from "../repositories.ts";
import { slug } from "../state.ts";
import { notFound, ok, type Route } from "./route.ts";

type NewCommit = {
  message: string;
  tree: string;
  parents: string[];
  author?: Person;
  committer?: Person;
};

/** Commits, read and made, and how two of them compare. */
export const commits: Route = async ({ fullName, route, body }, { state, url }) => {
  const { repositories } = state;
  const sha = /^GET git\/commits\/([0-9a-f]{40})$/.exec(route)?.[1];
  if (sha) {
    const commit = await repositories.commit(fullName, sha).catch(() => null);
    if (!commit) return notFound;
    const tree = { sha: commit.tree, url: `${url}/api/v3/repos/${fullName}` };
    const parents = commit.parents.map((parent) => ({ sha: parent }));
    return ok({ sha, message: commit.message, tree, parents });
  }
  if (route === "POST git/commits") {
    const given = body as NewCommit;
    const date = new Date().toISOString();
    const now = { name: `${slug}[bot]`, email: `${slug}@example.com`, date };
    const author = given.author ?? now;
    const committer = given.committer ?? author;
    const made = await repositories.write(fullName, { ...given, author, committer });
    return {
      status: 201,
      body: { sha: made, tree: { sha: given.tree }, message: given.message },
    };
  }
  const [, base, head] = /^GET compare\/(.+)\.\.\.(.+)$/.exec(route) ?? [];
  if (!base || !head) return null;
  const known = await Promise.all([base, head].map((ref) => repositories.resolve(fullName, ref)));
  if (known.includes(null)) return notFound;
  const count = async (range: string) =>
    Number(await repositories.git(fullName, ["rev-list", "--count", range]));
  const [ahead, behind] = [await count(`${base}..${head}`), await count(`${head}..${base}`)];
  const both = ahead > 0 && behind > 0;
  return ok({
    status: both ? "diverged" : ahead > 0 ? "ahead" : behind > 0 ? "behind" : "identical",
    ahead_by: ahead,
    behind_by: behind,
    commits: [],
    merge_base_commit: { sha: await repositories.git(fullName, ["merge-base", base, head]) },
  });
};
