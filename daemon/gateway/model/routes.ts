import type { Api } from "../../agent-settings.ts";
import type { ModelSettings } from "./model.ts";

/** Whose addresses a model has; everything else of a service is not the agent's. */
export const addresses: Record<Api, { method: string; path: RegExp }[]> = {
  anthropic: [
    { method: "POST", path: /^\/v1\/messages(\/count_tokens)?$/ },
    { method: "GET", path: /^\/v1\/models(\/[\w.:@-]+)?$/ },
  ],
  openai: [
    {
      method: "POST",
      path: /^\/v1\/(responses|responses\/compact|chat\/completions|completions|embeddings)$/,
    },
    { method: "GET", path: /^\/v1\/models(\/[\w.:@/-]+)?$/ },
  ],
  gemini: [
    {
      method: "POST",
      path: /^\/v1(?:alpha|beta)?\/models\/[\w.-]+:(generateContent|streamGenerateContent|countTokens|embedContent|batchEmbedContents)$/,
    },
    { method: "GET", path: /^\/v1(?:alpha|beta)?\/models(\/[\w.-]+)?$/ },
  ],
};

const defaultBase: Record<Api, string> = {
  anthropic: "https://api.anthropic.com",
  openai: "https://api.openai.com/v1",
  gemini: "https://generativelanguage.googleapis.com",
};
/** The address of a kind of service, daemon.yml's or the usual one, without a slash at its end. */
export const baseUrlOf = (api: Api, own: string | undefined): string =>
  (own ?? defaultBase[api]).replace(/\/+$/, "");

/** Whether a model speaks: what only counts or lists says nothing of how the model is. */
export const isGenerating = (path: string): boolean =>
  /\/(messages|responses|completions)$|enerateContent$/.test(path);

/**
 * The address at the service of a path below the gateway's; a base URL of OpenAI's kind ends with its /v1.
 */
export function target(
  { api, baseUrl }: ModelSettings,
  path: string,
  query: URLSearchParams,
): string {
  const rest = api === "openai" ? path.replace(/^\/v1/, "") : path;
  for (const name of ["key", "api_key", "access_token"]) query.delete(name);
  return `${baseUrl}${rest}${query.size > 0 ? `?${query}` : ""}`;
}
