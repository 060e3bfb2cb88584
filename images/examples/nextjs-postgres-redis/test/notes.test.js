import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { after, before, test } from "node:test";
import pg from "pg";
import { createClient } from "redis";
import { migrate } from "../scripts/migrate.js";

// The application itself, over HTTP, before its real services.

const port = 3100;
const url = `http://127.0.0.1:${port}`;
const env = {
  ...process.env,
  DATABASE_URL: process.env.TEST_DATABASE_URL,
  REDIS_URL: process.env.TEST_REDIS_URL,
};
let next;

before(async () => {
  await migrate(env.DATABASE_URL);
  const database = new pg.Client({ connectionString: env.DATABASE_URL });
  await database.connect();
  await database.query("truncate notes");
  await database.end();
  const store = await createClient({ url: env.REDIS_URL }).connect();
  await store.flushDb();
  await store.close();
  next = spawn("node_modules/.bin/next", ["dev", "--port", String(port)], {
    env,
    stdio: ["ignore", "inherit", "inherit"],
  });
  for (let tries = 0; tries < 300; tries++) {
    const answer = await fetch(`${url}/api/session`).catch(() => null);
    if (answer?.ok) return;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error("the application did not start");
});
after(() => next?.kill());

const add = (text) => fetch(`${url}/api/notes`, { method: "POST", body: JSON.stringify({ text }) });
const list = async () => await (await fetch(`${url}/api/notes`)).json();

test("a note is kept in Postgres and listed, newest first", async () => {
  assert.equal((await add("first")).status, 201);
  assert.equal((await add("second")).status, 201);
  const { notes } = await list();
  assert.deepEqual(
    notes.map(({ text }) => text),
    ["second", "first"],
  );
  const page = await (await fetch(url)).text();
  assert.match(page, /<li>second<\/li>/);
});

test("the list comes out of Redis until a note is added", async () => {
  await add("third");
  assert.equal((await list()).cached, false);
  assert.equal((await list()).cached, true);
  await add("fourth");
  assert.equal((await list()).cached, false);
});

test("a session counts its visits", async () => {
  const first = await fetch(`${url}/api/session`);
  const cookie = first.headers.get("set-cookie").split(";")[0];
  assert.equal((await first.json()).visits, 1);
  const second = await fetch(`${url}/api/session`, { headers: { cookie } });
  assert.equal((await second.json()).visits, 2);
});

test("an empty note is refused", async () => {
  assert.equal((await add("  ")).status, 422);
});
