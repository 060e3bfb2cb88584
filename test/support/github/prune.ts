// Cuts GitHub's OpenAPI description down to the operations that Trimo uses:
//
//   npm install --no-save @octokit/openapi && node --import tsx test/support/github/prune.ts
//
// The whole description is 13 MB and its package 400 MB, so it is no dependency; what is kept of it is
// openapi.json.gz beside this file.
import { readFileSync, writeFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const used: Record<string, string[]> = {
  "/app": ["get"],
  "/app/hook/deliveries": ["get"],
  "/app/hook/deliveries/{delivery_id}/attempts": ["post"],
  "/app/installations/{installation_id}/access_tokens": ["post"],
  "/app/installations": ["get"],
  "/installation/repositories": ["get"],
  "/repos/{owner}/{repo}/check-runs": ["post"],
  "/repos/{owner}/{repo}/check-runs/{check_run_id}/annotations": ["get"],
  "/repos/{owner}/{repo}/compare/{basehead}": ["get"],
  "/repos/{owner}/{repo}/check-runs/{check_run_id}": ["patch"],
  "/repos/{owner}/{repo}/collaborators/{username}/permission": ["get"],
  "/repos/{owner}/{repo}/commits/{ref}/check-runs": ["get"],
  "/repos/{owner}/{repo}/contents/{path}": ["get"],
  "/repos/{owner}/{repo}/git/commits": ["post"],
  "/repos/{owner}/{repo}/git/commits/{commit_sha}": ["get"],
  "/repos/{owner}/{repo}/git/ref/{ref}": ["get"],
  "/repos/{owner}/{repo}/git/refs": ["post"],
  "/repos/{owner}/{repo}/git/refs/{ref}": ["delete"],
  "/repos/{owner}/{repo}/issues": ["get"],
  "/repos/{owner}/{repo}/issues/{issue_number}": ["get"],
  "/repos/{owner}/{repo}/issues/comments/{comment_id}": ["patch"],
  "/repos/{owner}/{repo}/issues/comments/{comment_id}/reactions": ["post"],
  "/repos/{owner}/{repo}/issues/{issue_number}/comments": ["get", "post"],
  "/repos/{owner}/{repo}/issues/{issue_number}/labels/{name}": ["delete"],
  "/repos/{owner}/{repo}/pulls": ["get", "post"],
  "/repos/{owner}/{repo}/pulls/{pull_number}": ["get", "patch"],
  "/repos/{owner}/{repo}/pulls/{pull_number}/comments": ["get"],
  "/repos/{owner}/{repo}/pulls/{pull_number}/reviews": ["get"],
  "/repos/{owner}/{repo}/pulls/comments/{comment_id}/reactions": ["post"],
  "/search/issues": ["get"],
};

type Json = { [key: string]: Json } | Json[] | string | number | boolean | null;
type Operation = { operationId: string; parameters?: Json; requestBody?: Json };
const source = process.argv[2] ?? "node_modules/@octokit/openapi/generated/api.github.com.json";
const whole = JSON.parse(readFileSync(source, "utf8"));
const paths: Record<string, Record<string, Operation>> = {};
for (const [path, methods] of Object.entries(used)) {
  paths[path] = {};
  for (const method of methods) {
    const { operationId, parameters, requestBody } = whole.paths[path][method];
    // Answers are not held against it: only their codes' existence is.
    paths[path][method] = { operationId, parameters, requestBody, responses: {} } as Operation;
  }
}
const kept: Record<string, Record<string, Json>> = {};
collect(paths as unknown as Json);
const pruned = {
  openapi: "3.0.3",
  info: { title: whole.info.title, version: whole.info.version, license: whole.info.license },
  paths: withoutNullable(paths as unknown as Json),
  components: withoutNullable(kept as unknown as Json),
};
writeFileSync(
  new URL("openapi.json.gz", import.meta.url),
  gzipSync(JSON.stringify(pruned), { level: 9 }),
);

/** Follows every reference, so that what is kept is complete. */
function collect(value: Json) {
  if (value === null || typeof value !== "object") return;
  if (Array.isArray(value)) return value.forEach(collect);
  const ref = value.$ref;
  if (typeof ref === "string") {
    const [, , kind = "", name = ""] = ref.split("/");
    kept[kind] ??= {};
    if (kept[kind][name]) return;
    kept[kind][name] = whole.components[kind][name];
    collect(whole.components[kind][name]);
  }
  for (const [key, child] of Object.entries(value))
    if (!/^x-|^examples?$/.test(key)) collect(child);
}

/** JSON Schema has no `nullable`: the type says it. */
function withoutNullable(value: Json): Json {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(withoutNullable);
  const entries = Object.entries(value)
    .filter(
      ([key]) => !/^x-|^examples?$|^description$|^externalDocs$/.test(key) || key === "description",
    )
    .map(([key, child]) => [key, withoutNullable(child)] as const);
  const copy = Object.fromEntries(entries) as { [key: string]: Json };
  if (copy.nullable === true && typeof copy.type === "string") {
    copy.type = [copy.type, "null"];
    if (Array.isArray(copy.enum)) copy.enum = [...copy.enum, null];
  }
  if (typeof copy.nullable === "boolean") delete copy.nullable;
  return copy;
}
