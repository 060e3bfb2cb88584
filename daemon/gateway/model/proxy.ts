import type { IncomingMessage, ServerResponse } from "node:http";
import { request as ask, type Dispatcher } from "undici";
import type { FailureCode } from "../../../app/protocol/failure.ts";
import { refusalCode } from "../../agents/facts.ts";
import { redact } from "../../redact.ts";
import { CredentialError } from "../credential.ts";
import { AnswerTap } from "./answer-tap.ts";
import { headersBack, headersFor } from "./headers.ts";
import type { Model, ModelSettings } from "./model.ts";
import { end, failed } from "./patience.ts";
import { resetOf } from "./quota.ts";
import { addresses, isGenerating, target } from "./routes.ts";

const errorBytesMax = 64 * 1024;
const requestBytesMax = 64 * 2 ** 20;
const problemMax = 300;

/** Passes an agent's request on to its one model with the machine's key, and the answer back as it comes. */
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
    on.connection({ host, allowed: false, reason: "not what a model is asked" });
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
      dispatcher: model.pool,
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

/** A command may print another one; then the next request has it. Once, until a model has answered. */
async function hasAnother(model: Model, used: string | null): Promise<boolean> {
  if (used === null || model.renewed) return false;
  const another = await model.credential.refused(used).catch(() => false);
  if (another) model.renewed = true;
  return another;
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
