import type { IncomingMessage } from "node:http";
import type { Api } from "../../agent-settings.ts";

/** What an agent sends and nobody outside is to see, and what belongs to one connection. */
const kept =
  /^(?:authorization|x-api-key|x-goog-api-key|api-key|cookie|host|connection|keep-alive|transfer-encoding|te|trailer|upgrade|expect|accept-encoding|forwarded|x-forwarded-.*|proxy-.*|openai-organization|openai-project|x-goog-user-project)$/;
const keptBack =
  /^(?:set-cookie|connection|keep-alive|transfer-encoding|trailer|upgrade|proxy-.*|alt-svc|openai-organization)$/;

/** The headers for the model's service: those of the agent that are allowed, with the machine's key. */
export function headersFor(
  api: Api,
  request: IncomingMessage,
  key: string | null,
): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers))
    if (value !== undefined && !kept.test(name)) headers[name] = String(value);
  // Its answer is looked at on the way.
  headers["accept-encoding"] = "identity";
  if (key === null) return headers;
  if (api === "gemini") headers["x-goog-api-key"] = key;
  else if (api === "openai") headers.authorization = `Bearer ${key}`;
  else if (key.startsWith("sk-ant-oat")) {
    headers.authorization = `Bearer ${key}`;
    const known = (headers["anthropic-beta"] ?? "").split(",").filter(Boolean);
    if (!known.includes(oauthBeta)) headers["anthropic-beta"] = [...known, oauthBeta].join(",");
  } else headers["x-api-key"] = key;
  return headers;
}
const oauthBeta = "oauth-2025-04-20";

/** The headers of the service's answer that the agent gets. */
export function headersBack(headers: Record<string, string | string[] | undefined>) {
  return Object.fromEntries(
    Object.entries(headers).filter(
      ([name, value]) => value !== undefined && !keptBack.test(name) && name !== "content-length",
    ),
  ) as Record<string, string | string[]>;
}
