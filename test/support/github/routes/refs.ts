import { notFound, ok, type Route, unprocessable } from "./route.ts";

/** Branches, as git has them. */
export const refs: Route = async ({ fullName, route, body }, { state, url }) => {
  const { repositories } = state;
  const repoUrl = `${url}/api/v3/repos/${fullName}`;
  const branch = /^GET git\/ref\/heads\/(.+)$/.exec(route)?.[1];
  if (branch) {
    const sha = await repositories.resolve(fullName, `refs/heads/${branch}`);
    if (!sha) return notFound;
    const object = { type: "commit", sha, url: repoUrl };
    return ok({ ref: `refs/heads/${branch}`, node_id: "R", url: repoUrl, object });
  }
  if (route === "POST git/refs") {
    const { ref, sha } = body as { ref: string; sha: string };
    if (await repositories.resolve(fullName, ref)) return unprocessable("Reference already exists");
    await repositories.git(fullName, ["update-ref", ref, sha]);
    return { status: 201, body: { ref, object: { type: "commit", sha } } };
  }
  const deleted = /^DELETE git\/refs\/(heads\/.+)$/.exec(route)?.[1];
  if (!deleted) return null;
  if (!(await repositories.resolve(fullName, `refs/${deleted}`)))
    return unprocessable("Reference does not exist");
  await repositories.git(fullName, ["update-ref", "-d", `refs/${deleted}`]);
  return { status: 204, body: null };
};
