import { notFound, ok, type Route } from "./route.ts";

/** Files and folders at a commit. */
export const contents: Route = async ({ fullName, route, query }, { state }) => {
  const path = /^GET contents\/(.+)$/.exec(route)?.[1];
  if (!path) return null;
  const { repositories } = state;
  const at = `${query.get("ref") ?? "main"}:${path}`;
  const kind = await repositories.git(fullName, ["cat-file", "-t", at]).catch(() => null);
  if (kind === "tree") {
    const names = await repositories.git(fullName, ["ls-tree", "--name-only", at]);
    const entry = (name: string) => ({ name, path: `${path}/${name}`, type: "file" });
    return ok(names.split("\n").filter(Boolean).map(entry));
  }
  const text = await repositories.git(fullName, ["cat-file", "blob", at]).catch(() => null);
  if (text === null) return notFound;
  const content = Buffer.from(`${text}\n`).toString("base64");
  return ok({ type: "file", encoding: "base64", path, name: path, content });
};
