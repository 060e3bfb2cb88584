import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { type Dialect, dialectOf, type Turn } from "./dialects.ts";
import { type Call, type Script, scripts } from "./scripts.ts";

// A model that follows a script, for real agents: Anthropic Messages, OpenAI Responses and Chat
// Completions, and Gemini, streamed. It keeps no state: the last `[[name]]` among what the user said
// names the script, and the tool results since then are the step. The key names a fault: a key with
// `fault-401` in it is refused, and so on; `fault-cut-once` cuts the first answer only.

type Seen = {
  at: number;
  method: string;
  path: string;
  /** As the service saw it, whichever header it came in. */
  key: string;
  headers: Record<string, string>;
  body: string;
  status: number;
};

export type Model = {
  url: string;
  seen: Seen[];
  /** Milliseconds until a quota that is used up starts anew. */
  resetsInMs: number;
  close(): Promise<void>;
};

const bodyBytesMax = 64 * 2 ** 20;

export async function startModel(port = 0): Promise<Model> {
  const server = createServer();
  const model: Model = {
    url: "",
    seen: [],
    resetsInMs: 3_600_000,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  server.on("request", (request, response) => {
    answer(model, request, response).catch((error) => {
      if (!response.headersSent) response.writeHead(500);
      response.end(String(error));
    });
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  model.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return model;
}

async function answer(model: Model, request: IncomingMessage, response: ServerResponse) {
  const body = await readBody(request);
  const path = new URL(request.url ?? "/", "http://model").pathname;
  const headers = Object.fromEntries(
    Object.entries(request.headers).map(([name, value]) => [name, String(value)]),
  );
  const seen: Seen = {
    at: Date.now(),
    method: request.method ?? "",
    path: request.url ?? "",
    key: keyOf(headers),
    headers,
    body,
    status: 200,
  };
  model.seen.push(seen);
  const say = (status: number, value: unknown, more: Record<string, string> = {}) => {
    seen.status = status;
    response.writeHead(status, { "content-type": "application/json", ...more });
    response.end(JSON.stringify(value));
  };
  const dialect = dialectOf(path);
  if (path.endsWith("/models")) return say(200, { data: [{ id: "scripted", object: "model" }] });
  if (path.endsWith("/count_tokens")) return say(200, { input_tokens: 1_000 });
  if (!dialect) return say(404, { error: { type: "not_found_error", message: `no ${path}` } });
  if (!seen.key) return say(401, dialect.error("authentication_error", "there is no key"));
  const fault = /fault-([a-z0-9-]+)/.exec(seen.key)?.[1] ?? "";
  const parsed = JSON.parse(body || "{}");
  const turn = dialect.read(parsed, path);
  const earlier = model.seen.filter((one) => one.key === seen.key && dialectOf(one.path)).length;
  if (fault === "hang") return;
  const refused = refusals[fault];
  if (refused && (!fault.endsWith("-once") || earlier <= 1)) {
    const more = refused.quota ? quotaHeaders(model.resetsInMs) : {};
    return say(refused.status, dialect.error(refused.type, refused.message), more);
  }
  if (parsed.model === "gone")
    return say(404, dialect.error("not_found_error", "model: gone is not a model"));
  const cut = fault === "cut" || (fault === "cut-once" && earlier <= 1);
  await speak(response, dialect, turn, cut);
}

/** Faults that are an answer of their own, as the services word them. */
const refusals: Record<string, { status: number; type: string; message: string; quota?: boolean }> =
  {
    "401": { status: 401, type: "authentication_error", message: "invalid x-api-key" },
    "429": {
      status: 429,
      type: "rate_limit_error",
      message: "This request would exceed your account's rate limit. Please try again later.",
      quota: true,
    },
    "500": { status: 500, type: "api_error", message: "Internal server error" },
    "500-once": { status: 500, type: "api_error", message: "Internal server error" },
    "529": { status: 529, type: "overloaded_error", message: "Overloaded" },
  };

/** What Anthropic and OpenAI tell of a limit, and HTTP itself. */
function quotaHeaders(ms: number): Record<string, string> {
  const seconds = Math.ceil(ms / 1000);
  return {
    "retry-after": String(seconds),
    "anthropic-ratelimit-unified-status": "rejected",
    "anthropic-ratelimit-unified-reset": String(Math.ceil((Date.now() + ms) / 1000)),
    "x-ratelimit-reset-requests": `${seconds}s`,
  };
}

async function speak(response: ServerResponse, dialect: Dialect, turn: Turn, cut: boolean) {
  const script: Script = scripts[turn.marker] ?? scripts.plain ?? [];
  const step = script[Math.min(turn.step, script.length - 1)] ?? { text: "ok" };
  const call: Call | null = step.call ?? null;
  const pieces = dialect.write({ text: step.text, call, refusal: step.refusal ?? false, turn });
  if (!turn.stream) {
    response.writeHead(200, { "content-type": "application/json" });
    return response.end(pieces.whole);
  }
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  const upTo = cut ? Math.ceil(pieces.stream.length / 2) : pieces.stream.length;
  for (const piece of pieces.stream.slice(0, upTo)) {
    response.write(piece);
    await sleep(step.paceMs ?? 2);
  }
  if (cut) return void response.destroy();
  response.end();
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > bodyBytesMax) throw new Error("too large");
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function keyOf(headers: Record<string, string>): string {
  const bearer = /^Bearer (.+)$/i.exec(headers.authorization ?? "")?.[1];
  return bearer ?? headers["x-api-key"] ?? headers["x-goog-api-key"] ?? "";
}
