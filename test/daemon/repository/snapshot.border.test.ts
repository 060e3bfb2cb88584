import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { GitRepositories } from "../../../daemon/repository/git-repositories.ts";
import type { Gate } from "../../../daemon/repository/repositories.ts";
import { gitEnv as env, run } from "../../support/git.ts";

// Snapshots in a gate with real git over HTTP: what is taken, and what becomes of the branch by it.

const folder = mkdtempSync(join(tmpdir(), "trimo-snapshot-"));
const remote = join(folder, "remote/acme/app.git");
const work = join(folder, "work");
const author = { message: "Keep it", name: "hello (Trimo)", email: "trimo@example.com" };
const git = async (...args: string[]): Promise<string> =>
  (await run("git", ["-C", work, ...args], { env })).stdout.trim();
const fails = async (...args: string[]): Promise<string> =>
  await git(...args).then(
    () => "it was taken",
    (error: { stderr: string }) => error.stderr,
  );
let gate: Gate;
let server: Server;
let host: string;
let told = 0;

beforeAll(async () => {
  await run("git", ["init", "-q", "--bare", "-b", "trunk", remote], { env });
  await run("git", ["init", "-q", "-b", "trunk", work], { env });
  files({ "a.txt": "a", "b.txt": "b", "folder/c.txt": "c" });
  await git("add", "-A");
  await git("commit", "-qm", "Begin");
  await git("push", "-q", remote, "HEAD:trunk", "HEAD:refs/heads/trimo/1-x");
  server = createServer((request, response) => gate.serve(request, response, () => (told += 1)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  host = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});
beforeEach(async () => {
  const repositories = new GitRepositories(join(folder, "data"), join(folder, "remote"));
  const named = { folder: join(folder, "gate.git"), repository: "acme/app", branch: "trimo/1-x" };
  const wanted = { repository: "acme/app", branch: "trimo/1-x", token: "token" };
  const fetched = await repositories.fetch(wanted, new AbortController().signal);
  gate = await repositories.makeGate(named, fetched.folder, fetched.branchSha ?? "");
  await git("reset", "-q", "--hard", fetched.branchSha ?? "");
  told = 0;
});

function files(changes: Record<string, string | null>) {
  for (const [path, text] of Object.entries(changes)) {
    const whole = join(work, path);
    rmSync(whole, { recursive: true, force: true });
    if (text === null) continue;
    mkdirSync(join(whole, ".."), { recursive: true });
    writeFileSync(whole, text);
  }
}
/** Commits what has changed, and takes it back. */
async function snapshotOf(changes: Record<string, string | null>) {
  const before = await git("rev-parse", "HEAD");
  files(changes);
  await git("add", "-A");
  await git("commit", "-qm", "Snapshot", "--allow-empty");
  await git("push", "-q", `${host}/snapshot.git`, "+HEAD:refs/trimo/snapshot");
  await git("reset", "-q", "--hard", before);
}
async function commit(changes: Record<string, string | null>) {
  files(changes);
  await git("add", "-A");
  await git("commit", "-qm", "Work");
  await git("push", "-q", `${host}/repository.git`, "HEAD:trimo/1-x");
}
/** The branch's files and what is in them, as the gate has it. */
async function branchFiles(): Promise<Record<string, string>> {
  const inGate = async (...args: string[]) =>
    (await run("git", ["-C", join(folder, "gate.git"), ...args], { env })).stdout.trimEnd();
  const head = await gate.head();
  const paths = (await inGate("ls-tree", "-r", "-z", "--name-only", head)).split("\0");
  const rows = paths
    .filter(Boolean)
    .map(async (path) => [path, await inGate("show", `${head}:${path}`)]);
  return Object.fromEntries(await Promise.all(rows));
}
const begin = { "a.txt": "a", "b.txt": "b", "folder/c.txt": "c" };

test("the last of several is what the branch goes on with, as one commit of the given author", async () => {
  await snapshotOf({ "a.txt": "first" });
  const before = Math.floor(Date.now() / 1_000) * 1_000;
  await snapshotOf({ "a.txt": "second", "new file.txt": "n", "folder/c.txt": null });
  expect(told).toBe(0);
  expect(await gate.recoverSnapshot(author)).toBeGreaterThanOrEqual(before);
  expect(await branchFiles()).toEqual({ "a.txt": "second", "b.txt": "b", "new file.txt": "n" });
  const log = ["-C", join(folder, "gate.git"), "log", "--format=%an <%ae> %s", "trimo/1-x"];
  expect((await run("git", log, { env })).stdout.trim().split("\n")).toEqual([
    "hello (Trimo) <trimo@example.com> Keep it",
    "a <a@b> Begin",
  ]);
  // A daemon that was killed after it comes here again.
  expect(await gate.recoverSnapshot(author)).toBeNull();
});

test("what was committed after it stays as it was committed; what was not is taken from it", async () => {
  await snapshotOf({ "a.txt": "draft", "b.txt": "uncommitted", note: "x", "folder/c.txt": null });
  await commit({ "a.txt": "final" });
  await gate.recoverSnapshot(author);
  expect(await branchFiles()).toEqual({ "a.txt": "final", "b.txt": "uncommitted", note: "x" });
});

test.each([
  ["a file that a commit removed", { "a.txt": "draft" }, { "a.txt": null }, { "a.txt": undefined }],
  [
    "a file where a commit has a folder",
    { new: "file" },
    { "new/file": "in it" },
    { "new/file": "in it" },
  ],
  ["a folder where a commit has a file", { "new/file": "in it" }, { new: "file" }, { new: "file" }],
  [
    "a name with a tab, a quote and a line's end",
    { 'a\t"b\nc': "draft" },
    { 'a\t"b\nc': "final" },
    { 'a\t"b\nc': "final" },
  ],
])("%s is as the commit has it", async (_name, snapshot, later, wanted) => {
  await snapshotOf(snapshot);
  await commit(later as Record<string, string | null>);
  await gate.recoverSnapshot(author);
  const expected: Record<string, string | undefined> = { ...begin, ...wanted };
  expect(await branchFiles()).toEqual(JSON.parse(JSON.stringify(expected)));
});

test("of one that says what the branch has, or of none, nothing comes", async () => {
  expect(await gate.recoverSnapshot(author)).toBeNull();
  await snapshotOf({});
  const head = await gate.head();
  expect(await gate.recoverSnapshot(author)).toBeNull();
  expect(await gate.head()).toBe(head);
});

test("nothing else can be pushed beside, nor fetched, and it stands on the branch alone", async () => {
  const beside = `${host}/snapshot.git`;
  const parent = await git("rev-parse", "HEAD");
  await git("commit", "-q", "--allow-empty", "-m", "One");
  await git("commit", "-q", "--allow-empty", "-m", "Two");
  expect(await fails("push", beside, "+HEAD:refs/trimo/snapshot")).toContain(
    "a snapshot stands on the branch trimo/1-x",
  );
  for (const target of ["refs/heads/trimo/1-x", "refs/trimo/other", "refs/heads/other"])
    expect(await fails("push", beside, `+HEAD~1:${target}`)).toMatch(/only a snapshot|deny/);
  const root = await git("commit-tree", "-m", "Root", `${parent}^{tree}`);
  expect(await fails("push", beside, `+${root}:refs/trimo/snapshot`)).toContain("has a parent");
  await git("push", "-q", beside, "+HEAD~1:refs/trimo/snapshot");
  expect(await fails("push", beside, ":refs/trimo/snapshot")).toMatch(/delet/);
  expect(await fails("fetch", beside, "refs/heads/trimo/1-x")).toMatch(/404|not found/);
  expect(await git("ls-remote", `${host}/repository.git`)).not.toContain("refs/trimo");
  expect(await fails("push", `${host}/repository.git`, "+HEAD~1:refs/trimo/snapshot")).toMatch(
    /deny|hidden/,
  );
});

test("a hundred take little more room than one: each is a pack, and packs become one now and then", async () => {
  const noise = (seed: number) =>
    Array.from({ length: 4_000 }, (_, i) => ((i * 7_919 + seed * 104_729) % 65_537).toString(36));
  const parent = await git("rev-parse", "HEAD");
  for (let i = 0; i < 101; i++) {
    files({ "noise.txt": noise(i).join("\n") });
    await git("add", "-A");
    const tree = await git("write-tree");
    const commit = await git("commit-tree", tree, "-p", parent, "-m", "Snapshot");
    // Asked to come again while it packs.
    const push = ["push", "-q", `${host}/snapshot.git`, `+${commit}:refs/trimo/snapshot`];
    await expect.poll(() => fails(...push)).toBe("it was taken");
  }
  const inGate = join(folder, "gate.git");
  const count = async () =>
    (await run("git", ["-C", inGate, "count-objects", "-v"], { env })).stdout;
  await expect.poll(async () => Number(/^packs: (\d+)/m.exec(await count())?.[1])).toBeLessThan(60);
  expect(await count()).toMatch(/^count: 0$/m);
  await gate.recoverSnapshot(author);
  expect((await branchFiles())["noise.txt"]).toBe(noise(100).join("\n"));
});
