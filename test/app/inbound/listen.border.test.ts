import { createHmac, generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eq } from "drizzle-orm";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readConfig } from "../../../app/config.ts";
import { enroll } from "../../../app/daemons/enroll.ts";
import { type App, startApp } from "../../../app/main.ts";
import { deliveries } from "../../../app/state/schema.ts";
import { until } from "../../support/rig.ts";
import { openStore } from "../../support/store.ts";

const secret = "it is a secret";
const folder = mkdtempSync(join(tmpdir(), "trimo-webhook-"));
let app: App;
let url: string;

beforeAll(async () => {
  const { privateKey } = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  });
  const env = {
    APP_ID: "1",
    PRIVATE_KEY: privateKey,
    WEBHOOK_SECRET: secret,
    TRIMO_DATA: folder,
    PORT: "0",
    GHE_HOST: "127.0.0.1:9",
    GHE_PROTOCOL: "http",
  };
  app = await startApp(readConfig(env as never), pino({ level: "silent" }));
  url = `http://127.0.0.1:${app.port}`;
});
afterAll(async () => {
  await app.stop();
  rmSync(folder, { recursive: true, force: true });
});

function send(body: string, headers: Record<string, string>) {
  return fetch(`${url}/api/github/webhooks`, {
    method: "POST",
    body,
    headers: { "content-type": "application/json", ...headers },
  });
}
const sign = (body: string, key = secret) =>
  `sha256=${createHmac("sha256", key).update(body).digest("hex")}`;
const headers = (body: string, guid: string, key = secret) => ({
  "x-github-delivery": guid,
  "x-github-event": "ping",
  "x-hub-signature-256": sign(body, key),
});
async function stored() {
  const db = await openStore(join(folder, "app.db"));
  const rows = await db.read.select().from(deliveries);
  db.close();
  return rows.map((row) => row.guid);
}

test("a signed delivery is stored under GitHub's number before it is acknowledged; the same one again changes nothing", async () => {
  const body = '{"zen":"ü"}';
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => send(body, headers(body, "guid-1"))),
  );
  expect(answers.map((answer) => answer.status)).toEqual([202, 202, 202, 202, 202]);
  expect((await stored()).filter((guid) => guid === "guid-1")).toHaveLength(1);
});

test("in a storm each is stored once; one that had failed for good is taken up again when GitHub sends it again", async () => {
  const body = "{}";
  const db = await openStore(join(folder, "app.db"));
  const row = { event: "ping", payload: "", receivedAt: 1, dueAt: 1, attempts: 5, error: "x" };
  await db.write((tx) =>
    tx.insert(deliveries).values([
      { ...row, guid: "again", state: "failed" },
      { ...row, guid: "done", state: "handled" },
    ]),
  );
  const guids = Array.from({ length: 150 }, (_, i) => `storm-${i % 140}`);
  const answers = await Promise.all(
    ["again", "done", ...guids].map((guid) => send(body, headers(body, guid))),
  );
  expect(answers.filter((answer) => answer.status !== 202)).toEqual([]);
  expect((await stored()).filter((guid) => guid.startsWith("storm-"))).toHaveLength(140);
  const about = async (guid: string) =>
    (await db.read.select().from(deliveries).where(eq(deliveries.guid, guid)))[0];
  await until("it to be handled", async () => (await about("again"))?.state === "handled");
  expect(await about("again")).toMatchObject({ attempts: 0 });
  expect(await about("done")).toMatchObject({ attempts: 5, dueAt: 1 });
  db.close();
});

test("what is written comes home into the database's file when nobody waits for a commit", async () => {
  // Until the first checkpoint everything, the tables too, is in the log.
  const size = () => statSync(join(folder, "app.db")).size;
  expect(size()).toBeLessThan(10_000);
  const body = JSON.stringify({ zen: "x".repeat(2 ** 20) });
  for (let i = 0; i < 34; i++) await send(body, headers(body, `large-${i}`));
  await until("the checkpoint", () => size() > 100_000);
  // A log that stayed long would be taken for much to do at each look.
  let more = 0;
  await until("the log to begin anew", async () => {
    await send("{}", headers("{}", `small-${more++}`));
    return statSync(join(folder, "app.db-wal")).size < 17 * 2 ** 20;
  });
});

test("unsigned, forged and changed deliveries are refused with a sentence, and nothing is stored", async () => {
  const body = '{"a":1}';
  const { "x-hub-signature-256": _, ...unsigned } = headers(body, "guid-2");
  const cases = [
    await send(body, unsigned),
    await send(body, headers(body, "guid-2", "another secret")),
    await send(`${body} `, headers(body, "guid-2")),
  ];
  expect(cases.map((answer) => answer.status)).toEqual([401, 401, 401]);
  expect(await cases[1]?.text()).toContain("WEBHOOK_SECRET");
  const nameless = await send(body, { ...headers(body, ""), "x-github-delivery": "" });
  expect(nameless.status).toBe(400);
  expect(await stored()).not.toContain("guid-2");
});

test("health is told from the database, and the pages are for this machine only", async () => {
  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  expect((await fetch(url)).status).toBe(200);
  expect((await fetch(url, { headers: { "x-forwarded-for": "203.0.113.9" } })).status).toBe(403);
  expect((await fetch(`${url}/runs/../../etc/passwd`)).status).toBe(404);
  expect((await fetch(`${url}/runs/aaaaaaaaaaaa`)).status).toBe(404);
  const rebound = await new Promise<number>((resolve) => {
    void import("node:http").then(({ get }) =>
      get(url, { headers: { host: "evil.example.com" } }, (answer) =>
        resolve(answer.statusCode ?? 0),
      ),
    );
  });
  expect(rebound).toBe(403);
});

test("the daemons' door knows its tokens and answers bad requests with what is wrong", async () => {
  const ask = (path: string, body: unknown, token: string) =>
    fetch(`${url}/api/daemon/${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  expect((await ask("claim", { key: "12345678" }, "wrong")).status).toBe(401);
  const db = await openStore(join(folder, "app.db"));
  const account = null;
  const token = String(await enroll(db, { name: "studio", account, secret: "s3cr3t" }));
  const twice = await enroll(db, { name: "studio", account, secret: "other" });
  expect(twice).toHaveProperty("problem");
  const odd = await enroll(db, { name: "../x", account, secret: "other" });
  expect(odd).toHaveProperty("problem");
  db.close();
  expect(await (await ask("claim", { key: "12345678" }, token)).json()).toEqual({ job: null });
  const invalid = await ask("claim", { key: 1 }, token);
  expect([invalid.status, ((await invalid.json()) as { code: string }).code]).toEqual([
    422,
    "invalid",
  ]);
  const hello = { protocol: 99, version: "0", slots: 1, repositories: [], agents: [], held: [] };
  const other = await ask("hello", hello, token);
  expect([other.status, ((await other.json()) as { error: string }).error]).toEqual([
    409,
    expect.stringContaining("install the same version"),
  ]);
  const unknown = await ask(
    "runs/aaaaaaaaaaaa/settle",
    {
      attempt: 1,
      lastSeq: 0,
      outcome: "succeeded",
      failure: null,
      head: null,
      changed: false,
      quota: null,
    },
    token,
  );
  expect(unknown.status).toBe(404);
});

test("more than 26 MiB is refused, also when it comes without a length", async () => {
  const body = "x".repeat(27 * 2 ** 20);
  const announced = await send(body, headers(body, "guid-3")).then(
    (answer) => answer.status,
    () => 413,
  );
  expect(announced).toBe(413);
  const stream = new ReadableStream({
    start(controller) {
      for (let i = 0; i < 27; i++) controller.enqueue(new Uint8Array(2 ** 20));
      controller.close();
    },
  });
  const chunked = await fetch(`${url}/api/github/webhooks`, {
    method: "POST",
    body: stream,
    duplex: "half",
    headers: headers(body, "guid-3"),
  } as never).then(
    (answer) => answer.status,
    () => 413,
  );
  expect(chunked).toBe(413);
  expect(await stored()).not.toContain("guid-3");
});
