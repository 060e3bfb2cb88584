import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";
import { type Document, OpenAPIBackend } from "openapi-backend";

/** A request of ours that GitHub's own description does not allow. */
export type Breach = { method: string; path: string; problem: string };

/** Holds requests against GitHub's OpenAPI description, cut down to what Trimo uses (prune.ts). */
export async function openConformance(): Promise<
  (request: { method: string; path: string; query: string; body: unknown }) => Breach | null
> {
  const file = new URL("openapi.json.gz", import.meta.url);
  const definition = JSON.parse(gunzipSync(readFileSync(file)).toString("utf8")) as Document;
  const api = new OpenAPIBackend({
    definition,
    quick: true,
    strict: false,
    validate: true,
    coerceTypes: true,
    ajvOpts: { strict: false, allErrors: true, validateFormats: false },
  });
  await api.init();
  return ({ method, path, query, body }) => {
    const request = { method, path, query, body, headers: { "content-type": "application/json" } };
    const operation = api.router.matchOperation(request);
    if (!operation)
      return { method, path, problem: "not among the operations that prune.ts keeps" };
    const { valid, errors } = api.validator.validateRequest(request, operation);
    if (valid || !errors) return null;
    const problem = errors.map((e) => `${e.instancePath || "request"} ${e.message}`).join("; ");
    return { method, path, problem };
  };
}
