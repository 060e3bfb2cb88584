import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  commitsBetween,
  type Gate,
  gateHead,
  makeGate,
  pushOn,
  serveGate,
} from "../../daemon/gate.ts";
import { fetchMirror } from "../../daemon/mirror.ts";

// Mirror and gate with real git over HTTP.

const folder = mkdtempSync(join(tmpdir(), "trimo-gate-"));
const remote = join(folder, "remote/acme/app.git");
const work = join(folder, "work");
let gate: Gate;
let server: Server;
let url: string;
let pushes = 0;
const env = {
  ...process.env,
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_AUTHOR_NAME: "a",
  GIT_AUTHOR_EMAIL: "a@b",
  GIT_COMMITTER_NAME: "a",
  GIT_COMMITTER_EMAIL: "a@b",
  GIT_TERMINAL_PROMPT: "0",
};
const git = (cwd: string, ...args: string[]) =>
  execFileSync("git", ["-C", cwd, ...args], { env, stdio: "pipe" })
    .toString()
    .trim();
const fails = (cwd: string, ...args: string[]): string => {
  try {
    git(cwd, ...args);
  } catch (error) {
    return String((error as { stderr: Buffer }).stderr);
  }
  throw new Error(`git ${args.join(" ")} was not refused`);
};

beforeAll(async () => {
  execFileSync("git", ["init", "-q", "--bare", "-b", "trunk", remote], { env });
  execFileSync("git", ["init", "-q", "-b", "trunk", join(folder, "seed")], { env });
  execFileSync("mkdir", ["-p", join(folder, "seed/.github")]);
  writeFileSync(join(folder, "seed/.github/trimo.yml"), "agent: hello\n");
  git(join(folder, "seed"), "add", "-A");
  git(join(folder, "seed"), "commit", "-qm", "Begin");
  git(
    join(folder, "seed"),
    "push",
    "-q",
    remote,
    "HEAD:trunk",
    "HEAD:refs/heads/trimo/1-x",
    "HEAD:refs/heads/secret",
  );
  const fetched = await fetchMirror(
    join(folder, "data"),
    join(folder, "remote"),
    "acme/app",
    "trimo/1-x",
    "token",
  );
  gate = await makeGate(
    join(folder, "gate.git"),
    fetched.folder,
    "trimo/1-x",
    fetched.branchSha ?? "",
  );
  server = createServer((request, response) =>
    serveGate(gate, request, response, () => (pushes += 1)),
  );
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/repository.git`;
  execFileSync("git", ["clone", "-q", "-b", "trimo/1-x", url, work], { env, stdio: "pipe" });
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

test("a mirror knows the remote's own default branch, the pipeline's branch when it exists, and trimo.yml", async () => {
  const again = await fetchMirror(
    join(folder, "data"),
    join(folder, "remote"),
    "acme/app",
    "trimo/none",
    "token",
  );
  expect(again.branchSha).toBeNull();
  expect(again.trimoYml).toBe("agent: hello\n");
  expect(again.defaultSha).toBe(git(remote, "rev-parse", "trunk"));
});

test("a clone has the one branch, a commit goes forward, and its push is told", async () => {
  expect(git(work, "branch", "-r").replace(/\s+/g, " ")).not.toMatch(/secret|trunk/);
  const before = await gateHead(gate);
  git(work, "commit", "--allow-empty", "-qm", "One\n\nwith a body");
  git(work, "push", "-q", "origin", "HEAD:trimo/1-x");
  const after = await gateHead(gate);
  expect(await commitsBetween(gate, before, after)).toEqual([{ sha: after, subject: "One" }]);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(pushes).toBe(1);
});

test("what is not forward on the one branch is refused with a sentence", () => {
  git(work, "commit", "--allow-empty", "-qm", "Two");
  git(work, "push", "-q", "origin", "HEAD:trimo/1-x");
  git(work, "reset", "-q", "--hard", "HEAD~1");
  git(work, "commit", "--allow-empty", "-qm", "Other");
  expect(fails(work, "push", "--force", "origin", "HEAD:trimo/1-x")).toContain(
    "history only goes forward",
  );
  for (const target of [
    "HEAD:trunk",
    "HEAD:Trimo/1-x",
    "HEAD:trimo/2",
    "HEAD:refs/tags/v1",
    "HEAD:refs/notes/x",
    "HEAD:refs/replace/x",
    "HEAD:refs/trimo/x",
  ])
    expect(fails(work, "push", "--force", "origin", target)).toMatch(
      /only the branch|deny|refus|reject/,
    );
  expect(fails(work, "push", "origin", ":trimo/1-x")).toMatch(/deleted|delet/);
  git(work, "reset", "-q", "--hard", "@{u}");
});

test("objects of other branches cannot be had by their id", () => {
  git(join(folder, "seed"), "checkout", "-q", "-b", "hidden");
  git(join(folder, "seed"), "commit", "--allow-empty", "-qm", "Hidden");
  const hidden = git(join(folder, "seed"), "rev-parse", "HEAD");
  git(join(folder, "data/mirrors/acme/app.git"), "fetch", "-q", join(folder, "seed"), "hidden");
  // The container's git speaks protocol 0: its wish for version 2 is not passed on.
  expect(fails(work, "fetch", "origin", hidden)).toMatch(/not our ref|unadvertised|not allow/);
});

test("a file over GitHub's limit is refused before it comes as far as GitHub", () => {
  execFileSync("truncate", ["-s", String(101 * 2 ** 20), join(work, "BIG")]);
  git(work, "add", "BIG");
  git(work, "commit", "-qm", "Big");
  expect(fails(work, "push", "origin", "HEAD:trimo/1-x")).toContain("GitHub takes at most");
  git(work, "reset", "-q", "--hard", "HEAD~1");
});

test("nothing but clone, fetch and push is served", async () => {
  for (const path of [
    "/config",
    "/HEAD",
    "/objects/info/packs",
    "/../remote/acme/app.git/info/refs?service=git-upload-pack",
    "/info/refs",
    "/info/refs?service=git-upload-archive",
    "/git-upload-archive",
  ])
    expect((await fetch(`${url}${path}`)).status).toBe(404);
  expect((await fetch(`${url}/git-receive-pack`)).status).toBe(404);
});

test("on to the remote forward only: a branch that somebody moved is never overwritten", async () => {
  const head = await gateHead(gate);
  expect(await pushOn(gate, remote, "token", head)).toBe("pushed");
  const theirs = git(join(folder, "seed"), "rev-parse", "hidden");
  git(join(folder, "seed"), "push", "-qf", remote, "hidden:refs/heads/trimo/1-x");
  git(work, "commit", "--allow-empty", "-qm", "Three");
  git(work, "push", "-q", "origin", "HEAD:trimo/1-x");
  expect(await pushOn(gate, remote, "token", await gateHead(gate))).toBe("moved");
  expect(git(remote, "rev-parse", "trimo/1-x")).toBe(theirs);
  expect(await pushOn(gate, join(folder, "nowhere"), "token", head)).toHaveProperty("unreachable");
});
