import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import {
  createServer,
  type IncomingMessage,
  request,
  type Server,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import type { Fact } from "../../../app/protocol/event.ts";
import type { Api } from "../../../daemon/agent-settings.ts";
import { nothingSpent } from "../../../daemon/agents/adapter.ts";
import { CredentialError, createCredential } from "../../../daemon/gateway/credential.ts";
import type { Connection } from "../../../daemon/gateway/egress.ts";
import { Meter } from "../../../daemon/gateway/meter.ts";
import { createModel, type LimitHit, openPool } from "../../../daemon/gateway/model/model.ts";
import { serveModel } from "../../../daemon/gateway/model/proxy.ts";
import { resetOf } from "../../../daemon/gateway/model/quota.ts";
import { type Model, startModel } from "../../support/model/server.ts";

// The model gateway over real HTTP: before the scripted model, and before services that misbehave.

const closing: (() => unknown)[] = [];
const pool = openPool();
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

async function listen(handler: (request: IncomingMessage, response: ServerResponse) => void) {
  const server: Server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  closing.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

type Options = {
  credential?: string;
  env?: Record<string, string>;
  timeoutMs?: number;
  budget?: { tokens: number | null; usd: number | null };
  price?: { input: number; cached: number; output: number };
};

async function gateway(api: Api, baseUrl: string, options: Options = {}) {
  const facts: Fact[] = [];
  const connections: Connection[] = [];
  const cuts: LimitHit[] = [];
  const secrets = new Set<string>();
  const cut = (one: LimitHit) => cuts.push(one);
  const meter = new Meter(
    {
      clock: systemClock,
      tell: (fact) => facts.push(fact),
      over: (text) => cut({ code: "budget_spent", text, resetAt: null }),
    },
    options.price ?? null,
    options.budget ?? { tokens: null, usd: null },
    true,
    nothingSpent,
  );
  const credential = createCredential(
    options.credential ?? "env:KEY",
    options.env ?? { KEY: "sk-the-real-key-0123456789" },
    systemClock,
    (key) => secrets.add(key),
  );
  const service = {
    name: "it",
    api,
    baseUrl,
    timeoutMs: options.timeoutMs ?? 10_000,
    patienceMs: 60_000,
  };
  const on = {
    fact: (fact: Fact) => facts.push(fact),
    connection: (connection: Connection) => connections.push(connection),
    limitHit: cut,
  };
  const model = createModel({
    settings: service,
    credential,
    meter,
    secrets,
    clock: systemClock,
    pool,
    on,
  });
  const url = await listen((request, response) => void serveModel(model, request, response));
  return { url: `${url}/model/it`, facts, connections, cuts, meter, model };
}

async function scripted(): Promise<Model> {
  const model = await startModel();
  closing.push(() => model.close());
  return model;
}

const post = (url: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });
const hello = { model: "m", stream: true, messages: [{ role: "user", content: "[[hello]]" }] };

const dialects: [Api, string, string, object][] = [
  ["anthropic", "", "/v1/messages", hello],
  ["openai", "/v1", "/v1/chat/completions", hello],
  ["openai", "/v1", "/v1/responses", { model: "m", stream: true, input: "[[hello]]" }],
  [
    "gemini",
    "",
    "/v1beta/models/m:streamGenerateContent?alt=sse",
    { contents: [{ role: "user", parts: [{ text: "[[hello]]" }] }] },
  ],
];

describe.each(dialects)("%s at %s%s", (api, base, path, body) => {
  test("gets the machine's key instead of the agent's, and its tokens are counted", async () => {
    const upstream = await scripted();
    const { url, facts, meter } = await gateway(api, upstream.url + base);
    const own = {
      authorization: "Bearer of-the-agent",
      "x-api-key": "of-the-agent",
      "x-goog-api-key": "of-the-agent",
      cookie: "of=the-agent",
    };
    const answer = await post(
      `${url}${path}${path.includes("?") ? "&" : "?"}key=of-the-agent`,
      body,
      own,
    );
    expect(answer.status).toBe(200);
    expect(await answer.text()).toContain("I will creat");
    const seen = upstream.seen[0];
    expect(seen?.key).toBe("sk-the-real-key-0123456789");
    expect(JSON.stringify(seen?.headers) + seen?.path).not.toContain("of-the-agent");
    meter.flush();
    expect(facts.find((fact) => fact.type === "usage")).toMatchObject({
      inputTokens: api === "anthropic" ? 1_000 : 500,
      cachedTokens: 500,
      outputTokens: 42,
    });
    expect(facts.find((fact) => fact.type === "model")).toMatchObject({ status: 200, problem: "" });
  });
});

test("a subscription's token goes as a bearer with its beta", async () => {
  const upstream = await scripted();
  const env = { KEY: "sk-ant-oat01-abcdefghijklmnop" };
  const { url } = await gateway("anthropic", upstream.url, { env });
  await post(`${url}/v1/messages`, hello, { "anthropic-beta": "one" });
  expect(upstream.seen[0]?.headers).toMatchObject({
    authorization: "Bearer sk-ant-oat01-abcdefghijklmnop",
    "anthropic-beta": "one,oauth-2025-04-20",
  });
});

test.each([
  ["anthropic", "POST", "/v1/files"],
  ["anthropic", "DELETE", "/v1/models/m"],
  ["anthropic", "POST", "/v1/messages/../files"],
  ["openai", "POST", "/v1/files"],
  ["openai", "GET", "/v1/organization/usage"],
  ["gemini", "POST", "/v1beta/files"],
  ["gemini", "POST", "/upload/v1beta/files"],
] as [Api, string, string][])("of %s nothing is reached by %s %s", async (api, method, path) => {
  let reached = 0;
  const upstream = await listen((_, response) => {
    reached += 1;
    response.end();
  });
  const { url, connections } = await gateway(api, upstream);
  const at = new URL(url);
  const status = await new Promise((resolve) => {
    const options = { host: at.hostname, port: at.port, path: `${at.pathname}${path}`, method };
    request(options, (response) => resolve(response.statusCode)).end();
  });
  expect(status === 403 || status === 404).toBe(true);
  expect(reached).toBe(0);
  if (status === 403) expect(connections[0]).toMatchObject({ allowed: false });
});

test("bytes pass as they come, both ways", async () => {
  let finish = () => {};
  const heard: string[] = [];
  const upstream = await listen((request, response) => {
    request.on("data", (chunk) => heard.push(String(chunk)));
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: one\n\n");
    finish = () => response.end("data: two\n\n");
  });
  const { url } = await gateway("openai", upstream);
  const at = new URL(url);
  const asked = request({
    host: at.hostname,
    port: at.port,
    path: `${at.pathname}/v1/responses`,
    method: "POST",
  });
  asked.write("first");
  const chunks: string[] = [];
  const ended = new Promise<void>((resolve) => {
    asked.on("response", (response) => {
      response.on("data", (chunk) => chunks.push(String(chunk)));
      response.on("end", resolve);
    });
  });
  await expect.poll(() => heard.join("")).toBe("first");
  await expect.poll(() => chunks.join("")).toBe("data: one\n\n");
  asked.end("second");
  await expect.poll(() => heard.join("")).toBe("firstsecond");
  finish();
  await ended;
  expect(chunks.join("")).toBe("data: one\n\ndata: two\n\n");
});

test("a service that repeats the key in its refusal does not tell it to the agent", async () => {
  const upstream = await listen((request, response) => {
    response.writeHead(401, { "content-type": "application/json", "set-cookie": "a=b" });
    response.end(
      JSON.stringify({ error: { message: `Incorrect API key: ${request.headers.authorization}` } }),
    );
  });
  const { url, facts } = await gateway("openai", upstream);
  const answer = await post(`${url}/v1/responses`, {});
  expect(answer.headers.get("set-cookie")).toBeNull();
  expect(await answer.text()).not.toContain("the-real-key");
  expect(JSON.stringify(facts)).not.toContain("the-real-key");
});

describe("a service that gives no more", () => {
  const statusOf = async (url: string, times: number) => {
    const all: number[] = [];
    for (let i = 0; i < times; i++) {
      const answer = await post(`${url}/v1/messages`, hello).catch(() => null);
      all.push(answer?.status ?? 0);
      await answer?.text().catch(() => "");
    }
    return all;
  };
  const failing = (fault: string) => ({ env: { KEY: `canary_fault-${fault}_0123456789` } });

  test("refuses the key: twice is enough", async () => {
    const upstream = await scripted();
    const { url, cuts } = await gateway("anthropic", upstream.url, failing("401"));
    expect(await statusOf(url, 3)).toEqual([401, 401, 403]);
    expect(cuts).toMatchObject([{ code: "credential_refused" }]);
    expect(upstream.seen).toHaveLength(2);
  });

  test("but not when the command has another key by then", async () => {
    const upstream = await scripted();
    const folder = mkdtempSync(join(tmpdir(), "trimo-key-"));
    closing.push(() => rmSync(folder, { recursive: true }));
    const file = join(folder, "key");
    writeFileSync(file, "canary_fault-401_one");
    const { url, cuts } = await gateway("anthropic", upstream.url, {
      credential: `command: cat ${file}`,
    });
    expect(await statusOf(url, 1)).toEqual([401]);
    writeFileSync(file, "a-good-key");
    // The refusal asked for it already, and got the old one: the second finds the new.
    expect(await statusOf(url, 1)).toEqual([401]);
    expect(cuts).toMatchObject([]);
    expect(await statusOf(url, 1)).toEqual([200]);
  });

  test("tells of a limit that is far: at once; of one that is near: the agent waits itself", async () => {
    const upstream = await scripted();
    const far = await gateway("anthropic", upstream.url, failing("429"));
    await statusOf(far.url, 1);
    expect(far.cuts).toMatchObject([{ code: "quota_reached" }]);
    expect((far.cuts[0]?.resetAt ?? 0) - Date.now()).toBeGreaterThan(3_500_000);
    upstream.resetsInMs = 2_000;
    const near = await gateway("anthropic", upstream.url, failing("429"));
    await statusOf(near.url, 5);
    expect(near.cuts).toEqual([]);
    expect(near.model.failing?.limit.code).toBe("quota_reached");
  });

  test("falls over again and again: an end is made of it", async () => {
    const upstream = await scripted();
    const { url, cuts } = await gateway("anthropic", upstream.url, failing("529"));
    const all = await statusOf(url, 22);
    expect(all.filter((status) => status === 529)).toHaveLength(20);
    expect(cuts).toMatchObject([{ code: "model_overloaded" }]);
  });

  test("does not know the model", async () => {
    const upstream = await scripted();
    const { url, cuts } = await gateway("anthropic", upstream.url);
    for (let i = 0; i < 2; i++)
      await (await post(`${url}/v1/messages`, { ...hello, model: "gone" })).text();
    expect(cuts).toMatchObject([{ code: "model_unknown" }]);
  });

  test("breaks off in the middle: what the agent reads is broken too", async () => {
    const upstream = await scripted();
    const { url, model } = await gateway("anthropic", upstream.url, failing("cut"));
    const answer = await post(`${url}/v1/messages`, hello);
    await expect(answer.text()).rejects.toThrow();
    await expect.poll(() => model.failing?.limit.text).toContain("in the middle of an answer");
  });

  test("does not answer at all", async () => {
    const upstream = await scripted();
    const { url, model } = await gateway("anthropic", upstream.url, {
      ...failing("hang"),
      timeoutMs: 300,
    });
    expect(await statusOf(url, 1)).toEqual([503]);
    expect(model.failing?.limit.text).toContain("did not answer within");
    const nobody = await gateway("anthropic", "http://127.0.0.1:9");
    expect(await statusOf(nobody.url, 1)).toEqual([503]);
    expect(nobody.model.failing?.limit.code).toBe("model_overloaded");
  });

  test("says in the middle of a stream that it is overloaded", async () => {
    const upstream = await listen((_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.end(
        'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n',
      );
    });
    const { url, model } = await gateway("anthropic", upstream);
    await (await post(`${url}/v1/messages`, hello)).text();
    expect(model.failing?.limit).toMatchObject({
      code: "model_overloaded",
      text: "overloaded_error Overloaded",
    });
  });
});

test("a budget in tokens or dollars ends the run when it is spent", async () => {
  const upstream = await scripted();
  const tokens = await gateway("anthropic", upstream.url, { budget: { tokens: 2_000, usd: null } });
  for (let i = 0; i < 2; i++) await (await post(`${tokens.url}/v1/messages`, hello)).text();
  expect(tokens.cuts).toMatchObject([
    { code: "budget_spent", text: "2084 tokens of 2000 are used up" },
  ]);
  const price = { input: 3_000, cached: 0, output: 0 };
  const usd = await gateway("anthropic", upstream.url, { budget: { tokens: null, usd: 1 }, price });
  await (await post(`${usd.url}/v1/messages`, hello)).text();
  expect(usd.cuts).toMatchObject([{ code: "budget_spent", text: "$3.00 of $1.00 are spent" }]);
});

test("a key that is not there, or is more than one word, is said without a word of it", async () => {
  const read = (from: string, env = {}) =>
    createCredential(from, env, systemClock, () => {}).read();
  await expect(read("env:NONE")).rejects.toThrow(CredentialError);
  await expect(read("file:/no/such/file")).rejects.toThrow("cannot be read: ENOENT");
  await expect(read("command: echo secret; exit 3")).rejects.toThrow(
    /^the command for the key ended with exit 3$/,
  );
  await expect(read("command: printf 'one\\ntwo'")).rejects.toThrow("more than a key");
  await expect(read("env:EMPTY", { EMPTY: " " })).rejects.toThrow("is empty");
  expect(await read("command: echo it")).toBe("it");
  const { url, cuts } = await gateway("anthropic", "http://127.0.0.1:9", { env: {} });
  expect((await post(`${url}/v1/messages`, hello)).status).toBe(401);
  expect(cuts).toMatchObject([{ code: "credential_missing" }]);
});

test.each([
  [
    {
      "anthropic-ratelimit-unified-reset": "1795350000",
      "anthropic-ratelimit-unified-status": "rejected",
    },
    "",
    1_795_350_000_000,
  ],
  [
    { "anthropic-ratelimit-unified-reset": "1795350000", "retry-after": "5" },
    "",
    1_795_300_005_000,
  ],
  [{ "retry-after": "30" }, "", 1_795_300_030_000],
  [{ "retry-after": "Sat, 21 Nov 2026 22:27:00 GMT" }, "", 1_795_300_020_000],
  [{ "x-ratelimit-reset-tokens": "6m0s" }, "", 1_795_300_360_000],
  [{ "x-ratelimit-reset-requests": "120ms" }, "", 1_795_300_000_120],
  [{}, '{"error":{"type":"usage_limit_reached","resets_at":1795310000}}', 1_795_310_000_000],
  [{}, '{"error":{"details":[{"retryDelay":"34.5s"}]}}', 1_795_300_034_500],
  [{ "retry-after": "-1" }, "", null],
  [
    {
      "anthropic-ratelimit-unified-reset": "99999999999",
      "anthropic-ratelimit-unified-status": "rejected",
    },
    "",
    null,
  ],
])("a reset is read from %j %s", (headers, body, expected) => {
  expect(resetOf(headers, body, 1_795_300_000_000)).toBe(expected);
});
