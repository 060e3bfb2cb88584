import type { IncomingMessage, ServerResponse } from "node:http";
import type { State } from "./state.ts";

/** Git over HTTP, after the token was checked as GitHub checks it. */
export function serveGit(
  state: State,
  fullName: string,
  path: string,
  request: IncomingMessage,
  response: ServerResponse,
) {
  if (state.gitAway) {
    response.writeHead(503).end("Service unavailable\n");
    return;
  }
  const holder = state.holderOf(request.headers.authorization ?? "");
  const pushes = path === "/git-receive-pack" || request.url?.endsWith("service=git-receive-pack");
  const known = state.seed.repositories.some((row) => row.fullName === fullName);
  const may =
    holder?.kind === "person" ||
    (holder?.kind === "installation" &&
      (!holder.repositories || holder.repositories.includes(fullName)) &&
      holder.permissions.contents === (pushes ? "write" : holder.permissions.contents));
  if (!holder || !known || !may) {
    response.writeHead(holder ? 403 : 401, { "www-authenticate": 'Basic realm="GitHub"' });
    response.end("access denied\n");
    return;
  }
  setTimeout(() => {
    if (!request.destroyed) state.repositories.serve(fullName, path, request, response);
  }, state.gitDelayMs);
}
