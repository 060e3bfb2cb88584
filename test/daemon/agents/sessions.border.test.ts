import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { nothingSpent } from "../../../daemon/agents/adapter.ts";
import {
  agentsWithSession,
  findSession,
  forgetSession,
  keepSession,
  sessionBytesMax,
  sweepSessions,
} from "../../../daemon/agents/sessions.ts";
import { fileDisk } from "../../../daemon/disk.ts";
import { serveSessionFiles } from "../../../daemon/gateway/session-transfer.ts";
import { readRecords } from "../../../daemon/run/run-record.ts";

let data: string;
beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), "trimo-sessions-"));
});
afterEach(() => rmSync(data, { recursive: true, force: true }));

const day = 24 * 3_600_000;
async function keep(pipeline: string, agent: string, savedAt: number, bytes = 10) {
  const from = join(data, `from-${agent}`);
  writeFileSync(from, Buffer.alloc(bytes, 1));
  const about = { pipeline, agent, adapter: "claude", session: "s-1", number: 3 };
  await keepSession(data, from, { ...about, spent: nothingSpent, savedAt });
}

describe("what an agent remembers", () => {
  test("is found for its pipeline, agent and program, and replaced by the next run's", async () => {
    await keep("p1", "claude", 1);
    await keep("p1", "claude", 2, 20);
    expect(findSession(data, "p1", "claude", "claude")).toMatchObject({
      session: "s-1",
      savedAt: 2,
    });
    expect(readFileSync(findSession(data, "p1", "claude", "claude")?.path ?? "")).toHaveLength(20);
    // The same name is another program now.
    expect(findSession(data, "p1", "claude", "codex")).toBeNull();
    expect(findSession(data, "p2", "claude", "claude")).toBeNull();
    expect(agentsWithSession(data, "p1")).toEqual(["claude"]);
    await forgetSession(data, "p1", "claude");
    expect(findSession(data, "p1", "claude", "claude")).toBeNull();
  });

  test("goes when it is too old, or the oldest when there is too much; half of one is none", async () => {
    const now = 100 * day;
    await keep("p1", "claude", now - 20 * day);
    await keep("p2", "claude", now - 2 * day, 600);
    await keep("p3", "claude", now - 1 * day, 600);
    mkdirSync(join(data, "sessions", "p4-claude"));
    writeFileSync(join(data, "sessions", "p4-claude", "session.tar"), "half");
    expect(findSession(data, "p4", "claude", "claude")).toBeNull();
    await sweepSessions(data, { days: 14, diskBytes: 1_000 }, now);
    const left = ["p1", "p2", "p3", "p4"].filter((id) =>
      existsSync(join(data, "sessions", `${id}-claude`)),
    );
    expect(left).toEqual(["p3"]);
  });

  test("passes the gateway only with the key, and not when it is too large", async () => {
    const from = join(data, "from.tar");
    writeFileSync(from, "the archive");
    const files = { key: "k", from, to: join(data, "to.tar") };
    const server = createServer(
      (request, response) => void serveSessionFiles(files, request, response),
    );
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/session`;
    const headers = { "x-trimo-key": "k" };
    expect((await fetch(url)).status).toBe(403);
    expect(await (await fetch(url, { headers })).text()).toBe("the archive");
    const put = (body: Buffer) =>
      fetch(url, { method: "PUT", headers, body: new Uint8Array(body) });
    expect((await fetch(url, { method: "PUT", body: "x" })).status).toBe(403);
    expect((await put(Buffer.alloc(sessionBytesMax + 1))).status).toBe(413);
    expect(existsSync(files.to)).toBe(false);
    expect((await put(Buffer.from("small"))).status).toBe(204);
    expect(readFileSync(files.to, "utf8")).toBe("small");
    server.closeAllConnections();
    server.close();
  });
});

test("records of protocols 3 and 4 are gone on with, and one that cannot be read is not taken for none", () => {
  const runs = join(data, "runs");
  const write = (name: string, text: string | null) => {
    mkdirSync(join(runs, name), { recursive: true });
    if (text !== null) writeFileSync(join(runs, name, "record.json"), text);
  };
  const job = {
    run: "abcdefghijkm",
    attempt: 1,
    leaseMs: 1_000,
    number: 1,
    pipeline: "abcdefghijkn",
    repository: "acme/app",
    issue: 1,
    title: "x",
    branch: "trimo/1-x",
    base: { branch: "main", sha: "a".repeat(40) },
    agent: null,
    image: null,
    prompt: "x",
  };
  const plan = {
    agent: "hello",
    image: "trimo/base:bookworm",
    command: ["true"],
    verify: [],
    cpus: 1,
    memoryBytes: 1,
    pids: 1,
    minutes: 1,
    allow: [],
    branchSha: null,
    startSha: "a".repeat(40),
  };
  const old = { job, plan, containerId: "x", died: null, keep: false, end: null };
  write("abcdefghijkm-1", JSON.stringify(old));
  // As protocol 4 had it.
  const newer = {
    ...old,
    job: { ...job, run: "abcdefghijkp", handover: "what came before", fresh: true },
    plan: { ...plan, finding: "the base has moved on" },
    cut: { code: "budget_spent", text: "$2.00 of $1.00 are spent", resetAt: null },
  };
  write("abcdefghijkp-1", JSON.stringify(newer));
  write("broken-1", "{");
  write("empty-1", null);
  // The copy beside it is as good.
  write("abcdefghijkq-1", "");
  write("abcdefghijkr-1", null);
  for (const name of ["abcdefghijkq-1", "abcdefghijkr-1"])
    writeFileSync(join(runs, name, "record.copy.json"), JSON.stringify(newer));
  const found = Object.fromEntries(
    readRecords(fileDisk, data).map((row) => [row.folder.slice(runs.length + 1), row]),
  );
  expect(found["abcdefghijkm-1"]?.record).toMatchObject({
    job: { handoff: "", fresh: false },
    plan: { settings: { adapter: "script", command: ["true"] }, tokens: null },
    limitHit: null,
  });
  expect(found["abcdefghijkp-1"]?.record).toMatchObject({
    job: { handoff: "what came before" },
    plan: { driftNote: "the base has moved on" },
    limitHit: { code: "budget_spent" },
  });
  for (const name of ["abcdefghijkq-1", "abcdefghijkr-1"])
    expect(found[name]?.record).toMatchObject({ job: { handoff: "what came before" } });
  expect(found["broken-1"]).toMatchObject({ record: null, unreadable: true });
  expect(found["empty-1"]).toMatchObject({ record: null, unreadable: false });
});
