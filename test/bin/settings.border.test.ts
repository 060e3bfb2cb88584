import { spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import { recordWorkspace, stateOfWorkspace } from "../../app/state/workspace.ts";
import { openConformance } from "../support/github/conformance.ts";
import { openStore } from "../support/store.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "trimo-settings-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const { privateKey } = generateKeyPairSync("rsa", {
  modulusLength: 2048,
  privateKeyEncoding: { type: "pkcs8", format: "pem" },
  publicKeyEncoding: { type: "spki", format: "pem" },
});

function trimo(args: string[], env: Record<string, string>) {
  const { PATH = "", HOME = "" } = process.env;
  const { status, stderr, stdout } = spawnSync(
    process.execPath,
    ["--import", "tsx", "bin/trimo.ts", ...args],
    { cwd: root, env: { PATH, HOME, TRIMO_DATA: folder, ...env } as never, timeout: 30_000 },
  );
  return { status, stderr: stderr.toString(), stdout: stdout.toString() };
}
const good = { APP_ID: "1", PRIVATE_KEY: privateKey, WEBHOOK_SECRET: "x", PORT: "0" };

describe("the app's settings", () => {
  test("that are missing are all named at once, with exit 78 and nothing listening", () => {
    const { status, stderr, stdout } = trimo(["app"], {});
    expect(status).toBe(78);
    for (const name of ["APP_ID", "PRIVATE_KEY", "WEBHOOK_SECRET"])
      expect(stderr).toMatch(new RegExp(`^✖ ${name}`, "m"));
    expect(stdout).toBe("");
  });
  test.each([
    ["APP_ID", "abc", "number"],
    ["PRIVATE_KEY", "abc", "PEM"],
    ["PORT", "99999", "0 to 65535"],
    ["GHE_PROTOCOL", "ftp", "http or https"],
    ["TRIMO_PUBLIC_URL", "trimo.example.com", "URL"],
    ["TRIMO_DATABASE_URL", "postgres://x", "URL"],
    ["TRIMO_WRITES_PER_MINUTE", "0", "1 to 6000"],
    ["TRIMO_PATIENCE_MINUTES", "never", "above 0"],
    ["LOG_LEVEL", "loud", "one of"],
  ])("%s=%s is refused", (name, value, words) => {
    const { status, stderr } = trimo(["app"], { ...good, [name]: value });
    expect(status).toBe(78);
    expect(stderr).toMatch(new RegExp(`^✖ ${name} .*${words}`, "m"));
  });
});

describe("a backup", () => {
  test("is a whole copy of a database at work; a file that is there, and a database that is not, are refused", async () => {
    const data = join(folder, "backup");
    const db = await openStore(join(data, "app.db"));
    await db.write((tx) => recordWorkspace(tx, { id: 7, account: "acme", state: "suspended" }));
    const copy = join(data, "copies/one.db");
    const made = trimo(["backup", copy], { TRIMO_DATA: data });
    expect(made).toMatchObject({ status: 0, stderr: "", stdout: expect.stringContaining("✔") });
    await db.write((tx) => recordWorkspace(tx, { id: 7, account: "acme", state: "active" }));
    const restored = await openStore(copy);
    expect(await stateOfWorkspace(restored.read, 7)).toBe("suspended");
    restored.close();
    db.close();
    const again = trimo(["backup", copy], { TRIMO_DATA: data });
    expect([again.status, again.stderr]).toEqual([1, expect.stringContaining("exists already")]);
    const missing = trimo(["backup", `${copy}2`], { TRIMO_DATA: join(folder, "none") });
    expect(missing.stderr).toContain("There is no database at");
    const remote = { TRIMO_DATABASE_URL: "libsql://x.example" };
    expect(trimo(["backup", `${copy}2`], remote).stderr).toContain("back it up where it is");
  });
});

describe("the daemon's settings", () => {
  const yml = (text: string) => {
    const path = join(folder, "daemon.yml");
    writeFileSync(path, text);
    return ["daemon", "--config", path];
  };
  const wrong = "agents: { a: { adapter: script, command: [true] } }\n";
  const agents = wrong.replace("true", "'true'");
  test.each([
    ["agents: { a: { adapter: script, command: ['true'] } }\n", "No app is named"],
    ["server: https://x\nagents: {}\n", "names no agent"],
    ["server: https://x\nslots: none\n", "slots"],
    ["server: https://x\nsloots: 2\n", "sloots"],
    ["server: https://x\nagents: { 'Bad Name': { adapter: script, command: [x] } }\n", "agents"],
    [`server: http://trimo.example\n${agents}`, "its token would travel readable. Use https://"],
    [`server: https://x\ngithub: http://10.0.0.1\n${agents}`, "github: is"],
    ["a: [\n", "daemon.yml"],
    [wrong, "command.0"],
  ])("%j is refused with what is wrong", (text, words) => {
    const { status, stderr } = trimo(yml(text), { TRIMO_TOKEN: "t" });
    expect(status).toBe(78);
    expect(stderr).toContain(words);
  });
  test("a missing file, token or token file is named", () => {
    expect(trimo(["daemon", "--config", "/nowhere.yml"], {}).stderr).toContain(
      "/nowhere.yml cannot be read",
    );
    expect(trimo(yml("server: https://x\n"), {}).stderr).toContain("trimo enroll");
    expect(trimo([...yml("server: https://x\n"), "--token-file", "/nowhere"], {}).stderr).toContain(
      "/nowhere cannot be read",
    );
  });
});

test("enroll prints a token alone on stdout, once a name", () => {
  const first = trimo(["enroll", "studio"], {});
  expect([first.status, first.stderr]).toEqual([0, ""]);
  expect(first.stdout).toMatch(/^trimo_[\w-]{43}\n$/);
  const again = trimo(["enroll", "studio"], {});
  expect([again.status, again.stdout]).toEqual([1, ""]);
  expect(again.stderr).toContain("enrolled already");
});

test("machines are listed, given a new token and revoked by name", () => {
  expect(trimo(["machines"], { TRIMO_DATA: join(folder, "none") }).stdout).toContain(
    "No machine is enrolled",
  );
  const env = { TRIMO_DATA: join(folder, "machines") };
  const { stdout: token } = trimo(["enroll", "rack-1", "--account", "acme"], env);
  expect(trimo(["machines"], env).stdout).toBe("○ rack-1  enrolled, never started\n");
  expect(JSON.parse(trimo(["machines", "--json"], env).stdout)).toMatchObject([
    { name: "rack-1", account: "acme", here: false, seen: null, runs: 0 },
  ]);
  const again = trimo(["enroll", "rack-1", "--again"], env);
  expect(again.stdout).toMatch(/^trimo_[\w-]{43}\n$/);
  expect(again.stdout).not.toBe(token);
  expect(trimo(["enroll", "rack-2", "--again"], env)).toMatchObject({ status: 1, stdout: "" });
  expect(trimo(["revoke", "rack-1"], env).stdout).toContain("✔ rack-1 is revoked\n");
  expect(trimo(["revoke", "rack-1"], env).stderr).toContain("trimo machines");
});

test("a request that GitHub's description does not allow is a breach", async () => {
  const conforms = await openConformance();
  const ask = (method: string, path: string, body?: unknown) =>
    conforms({ method, path, query: "", body });
  const sha = "a".repeat(40);
  expect(
    ask("POST", "/repos/a/b/check-runs", { name: "Trimo", head_sha: sha, status: "queued" }),
  ).toBeNull();
  expect(ask("POST", "/repos/a/b/check-runs", { head_sha: sha })?.problem).toContain("name");
  expect(
    ask("POST", "/repos/a/b/check-runs", {
      name: "Trimo",
      head_sha: sha,
      status: "completed",
      conclusion: "great",
    })?.problem,
  ).toContain("conclusion");
  expect(ask("POST", "/repos/a/b/issues/1/comments", { text: "x" })?.problem).toContain("body");
  expect(ask("POST", "/repos/a/b/merges", {})?.problem).toContain("not among");
});
