import type { IncomingMessage, ServerResponse } from "node:http";
import { request as ask, type Dispatcher, EnvHttpProxyAgent } from "undici";
import type { Clock } from "../../../app/protocol/clock.ts";
import type { FailureCode } from "../../../app/protocol/failure.ts";
import type { Fact } from "../../../app/protocol/wire.ts";
import { refusalCode } from "../../agents/facts.ts";
import type { Api } from "../../agents/settings.ts";
import { redact } from "../../redact.ts";
import { type Credential, CredentialError } from "../credential.ts";
import type { Attempt } from "../egress.ts";
import type { Meter } from "../meter.ts";
import { AnswerTap } from "./answer-tap.ts";
import { resetOf } from "./quota.ts";

// The one model of a run. An agent speaks to http://127.0.0.1:3128/model/NAME with a placeholder for a
// key; the key is put on here, on the way out of the machine, and only for what a model is asked.
// Both ways are streamed as they come.

/** In a row, before it is taken for an answer. Another key may come of a command in between. */
const refusedMax = 2;
const unknownMax = 2;
const failuresMax = 20;
/** A limit that ends sooner is left to the agent's own patience. */
const soonMs = 60_000;
const errorBytesMax = 64 * 1024;
const requestBytesMax = 64 * 2 ** 20;
const problemMax = 300;

export type Cut = { code: FailureCode; text: string; resetAt: number | null };

export type ModelSettings = {
  name: string;
  api: Api;
  /** Without a slash at its end. */
  baseUrl: string;
  timeoutMs: number;
  /** How long nothing but failures is put up with: the agents retry by themselves, some without end. */
  patienceMs: number;
};

export type Model = ReturnType<typeof createModel>;

/** `cut` is called once, when the agent is to be ended: more requests would lead nowhere. */
export function createModel(
  settings: ModelSettings,
  credential: Credential,
  meter: Meter,
  secrets: Set<string>,
  clock: Clock,
  on: { fact: (fact: Fact) => void; attempt: (attempt: Attempt) => void; cut: (cut: Cut) => void },
) {
  return {
    settings,
    credential,
    meter,
    secrets,
    clock,
    on,
    /** Requests that were answered, well or not. */
    answered: 0,
    failing: null as null | { since: number; count: number; cut: Cut },
    ended: null as Cut | null,
    /** Another key was found for one that was refused. */
    renewed: false,
  };
}

/** Whose addresses a model has; everything else of a service is not the agent's. */
const addresses: Record<Api, { method: string; path: RegExp }[]> = {
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
export const baseUrlOf = (api: Api, own: string | undefined): string =>
  (own ?? defaultBase[api]).replace(/\/+$/, "");

/** One connection pool for all runs; a proxy of this machine's environment is gone through. */
let pool: Dispatcher | null = null;
const dispatcher = (): Dispatcher => {
  pool ??= new EnvHttpProxyAgent({ connections: 64, pipelining: 1 });
  return pool;
};

export async function serveModel(model: Model, request: IncomingMessage, response: ServerResponse) {
  const { settings, on } = model;
  const url = new URL(request.url ?? "/", "http://gateway");
  const prefix = `/model/${settings.name}`;
  const path = url.pathname.slice(prefix.length);
  if (!url.pathname.startsWith(`${prefix}/`))
    return refuse(model, response, 404, `there is one model here, at ${prefix}`);
  const known = addresses[settings.api].some(
    (address) => address.method === request.method && address.path.test(path),
  );
  if (!known) {
    const host = `${new URL(settings.baseUrl).host}${path}`.slice(0, 300);
    on.attempt({ host, allowed: false, reason: "not what a model is asked" });
    return refuse(
      model,
      response,
      403,
      `${request.method} ${path.slice(0, 200)} is not what a model is asked`,
    );
  }
  if (model.ended) return refuse(model, response, 403, model.ended.text);
  const key = await keyOf(model, response);
  if (key === undefined) return;
  const asked = {
    url: target(settings, path, url.searchParams),
    key,
    generates: isGenerating(path),
  };
  await forward(model, request, response, asked);
}

/** Whether a model speaks: what only counts or lists says nothing of how the model is. */
const isGenerating = (path: string): boolean =>
  /\/(messages|responses|completions)$|enerateContent$/.test(path);

/** Undefined: there is none, and the agent has been told. */
async function keyOf(model: Model, response: ServerResponse): Promise<string | null | undefined> {
  try {
    return await model.credential.read();
  } catch (error) {
    const text = error instanceof CredentialError ? error.message : "the key cannot be read";
    end(model, { code: "credential_missing", text, resetAt: null });
    refuse(model, response, 401, text);
    return undefined;
  }
}

/** A base URL of OpenAI's kind ends with its /v1. */
function target({ api, baseUrl }: ModelSettings, path: string, query: URLSearchParams): string {
  const rest = api === "openai" ? path.replace(/^\/v1/, "") : path;
  for (const name of ["key", "api_key", "access_token"]) query.delete(name);
  return `${baseUrl}${rest}${query.size > 0 ? `?${query}` : ""}`;
}

/** What an agent sends and nobody outside is to see, and what belongs to one connection. */
const kept =
  /^(?:authorization|x-api-key|x-goog-api-key|api-key|cookie|host|connection|keep-alive|transfer-encoding|te|trailer|upgrade|expect|accept-encoding|forwarded|x-forwarded-.*|proxy-.*|openai-organization|openai-project|x-goog-user-project)$/;
const keptBack =
  /^(?:set-cookie|connection|keep-alive|transfer-encoding|trailer|upgrade|proxy-.*|alt-svc|openai-organization)$/;

function headersFor(
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

type Asked = { url: string; key: string | null; generates: boolean };

async function forward(
  model: Model,
  request: IncomingMessage,
  response: ServerResponse,
  { url, key, generates }: Asked,
) {
  const { settings, clock } = model;
  const beganAt = clock.now();
  const gone = new AbortController();
  response.on("close", () => !response.writableFinished && gone.abort());
  if (Number(request.headers["content-length"] ?? 0) > requestBytesMax)
    return refuse(model, response, 413, `a request has at most ${requestBytesMax / 2 ** 20} MB`);
  let answer: Dispatcher.ResponseData;
  try {
    answer = await ask(url, {
      method: request.method as Dispatcher.HttpMethod,
      headers: headersFor(settings.api, request, key),
      body: request.method === "POST" ? request : null,
      dispatcher: dispatcher(),
      headersTimeout: settings.timeoutMs,
      bodyTimeout: settings.timeoutMs,
      signal: gone.signal,
    });
  } catch (error) {
    if (gone.signal.aborted) return;
    const problem = unreachable(error, settings);
    note(model, { status: 0, firstByteMs: null, beganAt, generates, problem });
    failed(model, generates, { code: "model_overloaded", text: problem, resetAt: null });
    return refuse(model, response, 503, problem);
  }
  const firstByteMs = clock.now() - beganAt;
  const seen = { status: answer.statusCode, firstByteMs, beganAt, generates };
  if (answer.statusCode >= 400) return await passRefusal(model, answer, response, seen, key);
  await passAnswer(model, answer, response, seen, gone.signal);
}

type Exchange = {
  status: number;
  firstByteMs: number | null;
  beganAt: number;
  generates: boolean;
};

/** Small, so it is read whole: some services repeat the key in what they say of it. */
async function passRefusal(
  model: Model,
  answer: Dispatcher.ResponseData,
  response: ServerResponse,
  seen: Exchange,
  key: string | null,
) {
  const { clock, secrets } = model;
  const body = redact(await firstOf(answer.body, errorBytesMax), secrets);
  const code = codeOf(seen.status, messageOf(body));
  const text = `${seen.status} ${messageOf(body)}`.trim();
  note(model, { ...seen, problem: text });
  // Before the agent hears of it: it asks again at once.
  const another = code === "credential_refused" && (await hasAnother(model, key));
  response.writeHead(seen.status, headersBack(answer.headers));
  response.end(body);
  if (another) return;
  failed(model, seen.generates, {
    code,
    text,
    resetAt: resetOf(answer.headers, body, clock.now()),
  });
}

/** A limit of money, and a bad key, are told as a bad request by some; else that is the agent's own. */
function codeOf(status: number, words: string): FailureCode {
  if (status !== 400) return refusalCode(status, "") ?? "agent_failed";
  if (/credit balance|billing|quota/i.test(words)) return "quota_reached";
  return /api key/i.test(words) ? "credential_refused" : "agent_failed";
}

async function passAnswer(
  model: Model,
  answer: Dispatcher.ResponseData,
  response: ServerResponse,
  seen: Exchange,
  gone: AbortSignal,
) {
  const tap = new AnswerTap(String(answer.headers["content-type"] ?? ""));
  response.writeHead(seen.status, headersBack(answer.headers));
  response.flushHeaders();
  let problem = "";
  try {
    for await (const chunk of answer.body as AsyncIterable<Buffer>) {
      tap.push(chunk);
      if (!response.write(chunk) && !gone.aborted) await drained(response, gone);
      if (gone.aborted) break;
    }
  } catch (error) {
    problem = gone.aborted
      ? ""
      : `in the middle of an answer ${unreachable(error, model.settings)}`;
  }
  tap.end();
  const { input, cached, output, error } = tap.told;
  model.meter.add(input, cached, output);
  problem ||= error ?? "";
  note(model, { ...seen, problem: gone.aborted ? "the agent hung up" : problem });
  // A cut answer must look cut to the agent as well.
  if (problem && !error) response.destroy();
  else response.end();
  if (gone.aborted) return;
  if (problem) {
    const code = refusalCode(null, problem) ?? "model_overloaded";
    failed(model, seen.generates, { code, text: problem, resetAt: null });
  } else if (seen.generates) {
    model.failing = null;
    model.renewed = false;
  }
}

function drained(response: ServerResponse, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off("drain", done);
      gone.removeEventListener("abort", done);
      resolve();
    };
    response.on("drain", done);
    gone.addEventListener("abort", done);
  });
}

function headersBack(headers: Record<string, string | string[] | undefined>) {
  return Object.fromEntries(
    Object.entries(headers).filter(
      ([name, value]) => value !== undefined && !keptBack.test(name) && name !== "content-length",
    ),
  ) as Record<string, string | string[]>;
}

/** A refusal in the words of the service's own kind, so that every client can read it. */
function refuse(model: Model, response: ServerResponse, status: number, why: string) {
  const message = `Trimo: ${why}`;
  const type =
    status === 401 ? "authentication_error" : status === 503 ? "api_error" : "permission_error";
  const error =
    model.settings.api === "gemini"
      ? { error: { code: status, message, status: "FAILED_PRECONDITION" } }
      : { type: "error", error: { type, message, code: type } };
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(error));
}

function note(
  model: Model,
  { status, firstByteMs, beganAt, problem }: Exchange & { problem: string },
) {
  model.answered += 1;
  const retry = model.failing !== null;
  const durationMs = Math.max(0, model.clock.now() - beganAt);
  const told = redact(problem, model.secrets).replace(/\s+/g, " ").slice(0, problemMax);
  model.on.fact({ type: "model", status, firstByteMs, durationMs, retry, problem: told });
}

/** One more failure of the same kind in a row; so many, or of such a kind, that the agent is ended. */
function failed(model: Model, generates: boolean, cut: Cut) {
  // That a service lists no models, or counts no tokens, is nothing to end a run for.
  if (!generates && cut.code !== "credential_refused") return;
  const now = model.clock.now();
  const same = model.failing?.cut.code === cut.code ? model.failing : null;
  model.failing = { since: same?.since ?? now, count: (same?.count ?? 0) + 1, cut };
  if (isHopeless(model.failing, now, model.settings.patienceMs)) end(model, cut);
}

/** So many at least, however long they took: between two of them an agent may have worked for an hour. */
const patientMin = 3;

function isHopeless(
  { since, count, cut }: NonNullable<Model["failing"]>,
  now: number,
  patienceMs: number,
): boolean {
  if (cut.code === "credential_refused") return count >= refusedMax;
  if (cut.code === "model_unknown") return count >= unknownMax;
  const far = cut.resetAt !== null && cut.resetAt - now > soonMs;
  if (cut.code === "quota_reached" && far) return true;
  return count >= failuresMax || (count >= patientMin && now - since > patienceMs);
}

/** A command may print another one; then the next request has it. Once, until a model has answered. */
async function hasAnother(model: Model, used: string | null): Promise<boolean> {
  if (used === null || model.renewed) return false;
  const another = await model.credential.refused(used).catch(() => false);
  if (another) model.renewed = true;
  return another;
}

function end(model: Model, cut: Cut) {
  if (model.ended) return;
  model.ended = cut;
  model.on.cut(cut);
}

function unreachable(error: unknown, { baseUrl, timeoutMs }: ModelSettings): string {
  const { code, message, cause } = error as {
    code?: string;
    message?: string;
    cause?: { code?: string };
  };
  const host = new URL(baseUrl).host;
  if (code === "UND_ERR_SOCKET" || code === "UND_ERR_ABORTED")
    return `${host} broke the connection off`;
  if (/TIMEOUT/.test(code ?? "") && code !== "UND_ERR_CONNECT_TIMEOUT")
    return `${host} did not answer within ${Math.round(timeoutMs / 1000)} s`;
  return `${host} does not answer: ${cause?.code ?? code ?? message ?? "error"}`;
}

function messageOf(body: string): string {
  try {
    const parsed = JSON.parse(body) as { error?: { message?: string } | string; message?: string };
    const { error } = parsed;
    const words = typeof error === "string" ? error : (error?.message ?? parsed.message);
    return String(words ?? "").slice(0, 1_000);
  } catch {
    // A page of a proxy's.
    return body.slice(0, 200);
  }
}

async function firstOf(body: AsyncIterable<Uint8Array>, bytesMax: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const chunk of body) {
      bytes += chunk.length;
      if (bytes > bytesMax) break;
      chunks.push(chunk);
    }
  } catch {
    // What came is what there is.
  }
  return Buffer.concat(chunks).toString("utf8");
}
