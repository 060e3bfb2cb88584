import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { enroll } from "../../../app/daemons/enroll.ts";
import { daemonRoutes } from "../../../app/daemons/routes.ts";
import type { Tokens } from "../../../app/github/token.ts";
import { systemClock } from "../../../app/protocol/clock.ts";
import { protocolVersion } from "../../../app/protocol/version.ts";
import { allDaemons } from "../../../app/state/daemon.ts";
import type { Database } from "../../../app/state/database.ts";
import { createWake } from "../../../app/state/wake.ts";
import { openStore } from "../../support/store.ts";

// What an app says to daemons that were not updated with it.

const folder = mkdtempSync(join(tmpdir(), "trimo-protocol-"));
let db: Database;
let token = "";
beforeAll(async () => {
  db = await openStore(join(folder, "app.db"));
  token = String(await enroll(db, { name: "studio", account: null, secret: "s".repeat(30) }));
});
afterAll(() => {
  db.close();
  rmSync(folder, { recursive: true, force: true });
});

async function hello(protocol: number, held: { run: string; attempt: number }[]) {
  const routes = daemonRoutes({
    db,
    tokens: {} as Tokens,
    clock: systemClock,
    wake: createWake(),
  });
  const about = { protocol, version: "0", slots: 2, repositories: ["*"], agents: ["hello"] };
  const answer = await routes.request("/hello", {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ ...about, start: "one", held }),
  });
  const body = (await answer.json()) as { code?: string; error?: string };
  return { status: answer.status, body };
}
const held = [{ run: "a".repeat(12), attempt: 1 }];
const slots = async () => (await allDaemons(db.read))[0]?.slots;

test("a daemon of the version before finishes the runs it has, and is given nothing new", async () => {
  expect((await hello(protocolVersion, [])).status).toBe(200);
  expect(await slots()).toBe(2);
  const answer = await hello(protocolVersion - 1, held);
  expect(answer).toMatchObject({ status: 200, body: { verdicts: [{ verdict: "kill" }] } });
  expect(await slots()).toBe(0);
});

test.each([
  ["of the version before, with nothing in hand", protocolVersion - 1, []],
  ["older than that", protocolVersion - 2, held],
  ["newer than the app", protocolVersion + 1, held],
])("a daemon %s is told which version to install", async (_which, protocol, runs) => {
  const { status, body } = await hello(protocol, runs);
  expect([status, body.code]).toEqual([409, "protocol"]);
  expect(body.error).toContain("install the same version");
});
