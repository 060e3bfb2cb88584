import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import { fileDisk } from "../../../daemon/disk.ts";
import { type GitError, gitIn } from "../../../daemon/repository/git.ts";
import { GitRepositories } from "../../../daemon/repository/git-repositories.ts";
import { type LongWait, Pusher } from "../../../daemon/repository/pusher.ts";
import type { Gate } from "../../../daemon/repository/repositories.ts";
import { type Kept, readKept, recordKept } from "../../../daemon/run/kept.ts";
import { pushKept } from "../../../daemon/run/push-kept.ts";
import { ServerError } from "../../../daemon/server/client.ts";
import { gitEnv as env, run } from "../../support/git.ts";
import { Repositories as HostRepositories } from "../../support/github/repositories.ts";

// Mirror and gate with real git over HTTP.

const folder = mkdtempSync(join(tmpdir(), "trimo-gate-"));
const remote = join(folder, "remote/acme/app.git");
const work = join(folder, "work");
const repositories = new GitRepositories(join(folder, "data"), join(folder, "remote"));
const named = { folder: join(folder, "gate.git"), repository: "acme/app", branch: "trimo/1-x" };
/** Nobody waits, and nothing is told of it. */
const briefly: LongWait = {
  since: Date.now(),
  longMs: 60_000,
  cancel: new AbortController().signal,
  onWaiting: () => {},
  onLong: async () => {},
};
let gate: Gate;
let server: Server;
let url: string;
let pushes = 0;
async function git(cwd: string, ...args: string[]): Promise<string> {
  return (await run("git", ["-C", cwd, ...args], { env })).stdout.trim();
}
async function fails(cwd: string, ...args: string[]): Promise<string> {
  const answer = await git(cwd, ...args).catch((error) => error as { stderr: string });
  if (typeof answer === "string") throw new Error(`git ${args.join(" ")} was not refused`);
  return answer.stderr;
}

beforeAll(async () => {
  await run("git", ["init", "-q", "--bare", "-b", "trunk", remote], { env });
  await run("git", ["init", "-q", "-b", "trunk", join(folder, "seed")], { env });
  await run("mkdir", ["-p", join(folder, "seed/.github")], { env });
  writeFileSync(join(folder, "seed/.github/trimo.yml"), "agent: hello\n");
  await git(join(folder, "seed"), "add", "-A");
  await git(join(folder, "seed"), "commit", "-qm", "Begin");
  await git(
    join(folder, "seed"),
    "push",
    "-q",
    remote,
    "HEAD:trunk",
    "HEAD:refs/heads/trimo/1-x",
    "HEAD:refs/heads/secret",
  );
  const fetched = await repositories.fetch(
    { repository: "acme/app", branch: "trimo/1-x", token: "token" },
    new AbortController().signal,
  );
  gate = await repositories.makeGate(named, fetched.folder, fetched.branchSha ?? "");
  server = createServer((request, response) => gate.serve(request, response, () => (pushes += 1)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/repository.git`;
  await run("git", ["clone", "-q", "-b", "trimo/1-x", url, work], { env });
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

test("a mirror knows the remote's own default branch, the pipeline's branch when it exists, and trimo.yml", async () => {
  const again = await repositories.fetch(
    { repository: "acme/app", branch: "trimo/none", token: "token" },
    new AbortController().signal,
  );
  expect(again.branchSha).toBeNull();
  expect(again.trimoYml).toBe("agent: hello\n");
  expect(again.defaultSha).toBe(await git(remote, "rev-parse", "trunk"));
});

test("a clone has the one branch, a commit goes forward, and its push is told", async () => {
  expect((await git(work, "branch", "-r")).replace(/\s+/g, " ")).not.toMatch(/secret|trunk/);
  const before = await gate.head();
  await git(work, "commit", "--allow-empty", "-qm", "One\n\nwith a body");
  await git(work, "push", "-q", "origin", "HEAD:trimo/1-x");
  const after = await gate.head();
  expect(await gate.commitsBetween(before, after)).toEqual([{ sha: after, subject: "One" }]);
  await expect.poll(() => pushes).toBe(1);
});

test("what is not forward on the one branch is refused with a sentence", async () => {
  await git(work, "commit", "--allow-empty", "-qm", "Two");
  await git(work, "push", "-q", "origin", "HEAD:trimo/1-x");
  await git(work, "reset", "-q", "--hard", "HEAD~1");
  await git(work, "commit", "--allow-empty", "-qm", "Other");
  expect(await fails(work, "push", "--force", "origin", "HEAD:trimo/1-x")).toContain(
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
    expect(await fails(work, "push", "--force", "origin", target)).toMatch(
      /only the branch|deny|refus|reject/,
    );
  expect(await fails(work, "push", "origin", ":trimo/1-x")).toMatch(/deleted|delet/);
  await git(work, "reset", "-q", "--hard", "@{u}");
});

test("objects of other branches cannot be had by their id", async () => {
  await git(join(folder, "seed"), "checkout", "-q", "-b", "hidden");
  await git(join(folder, "seed"), "commit", "--allow-empty", "-qm", "Hidden");
  const hidden = await git(join(folder, "seed"), "rev-parse", "HEAD");
  await git(
    join(folder, "data/mirrors/acme/app.git"),
    "fetch",
    "-q",
    join(folder, "seed"),
    "hidden",
  );
  // The container's git speaks protocol 0: its wish for version 2 is not passed on.
  expect(await fails(work, "fetch", "origin", hidden)).toMatch(
    /not our ref|unadvertised|not allow/,
  );
});

test("another branch's commits cannot be pulled in as a parent: they are not advertised, and refused", async () => {
  const hidden = await git(join(folder, "seed"), "rev-parse", "hidden");
  const advertised = await (await fetch(`${url}/info/refs?service=git-receive-pack`)).text();
  expect(advertised).not.toContain(hidden);
  const head = await git(work, "rev-parse", "HEAD");
  const tree = await git(work, "rev-parse", "HEAD^{tree}");
  // By hand: git itself would not name a parent that it does not have.
  const text = `tree ${tree}\nparent ${head}\nparent ${hidden}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nSteal\n`;
  writeFileSync(join(folder, "commit"), text);
  const stolen = await git(
    work,
    "hash-object",
    "-t",
    "commit",
    "-w",
    "--literally",
    join(folder, "commit"),
  );
  const pack = await run(
    "sh",
    [
      "-c",
      `printf '%s\n' ${stolen} | git -C ${work} pack-objects --stdout > ${join(folder, "pack")}`,
    ],
    { env },
  );
  expect(pack.stderr).not.toContain("fatal");
  const line = `${head} ${stolen} refs/heads/trimo/1-x\0 report-status`;
  const length = (line.length + 4).toString(16).padStart(4, "0");
  const body = Buffer.concat([
    Buffer.from(`${length}${line}0000`),
    readFileSync(join(folder, "pack")),
  ]);
  const answer = await fetch(`${url}/git-receive-pack`, {
    method: "POST",
    body,
    headers: { "content-type": "application/x-git-receive-pack-request" },
  });
  const report = await answer.text();
  expect(report).toContain("ng refs/heads/trimo/1-x pre-receive hook declined");
  expect(await gate.head()).toBe(head);
});

test("a file over GitHub's limit is refused before it comes as far as GitHub", async () => {
  await run("truncate", ["-s", String(101 * 2 ** 20), join(work, "BIG")], { env });
  await git(work, "add", "BIG");
  await git(work, "commit", "-qm", "Big");
  expect(await fails(work, "push", "origin", "HEAD:trimo/1-x")).toContain("GitHub takes at most");
  await git(work, "reset", "-q", "--hard", "HEAD~1");
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

test("the end of a run counts a push that nobody has looked at yet", async () => {
  const start = await gate.head();
  await gate.push(start, "token");
  await git(work, "commit", "--allow-empty", "-qm", "Last");
  await git(work, "push", "-q", "origin", "HEAD:trimo/1-x");
  const told: string[] = [];
  const pusher = new Pusher({
    isOurs: () => true,
    gate,
    at: { told: start, onGitHub: start, start },
    token: async () => "token",
    clock: systemClock,
    tell: (fact) => told.push(fact.type),
    signal: new AbortController().signal,
  });
  expect(pusher.changed).toBe(false);
  const verdict = await pusher.finish("trimo/1-x-run-1", briefly);
  expect(verdict).toEqual({ ok: true, head: await gate.head() });
  expect(pusher.changed).toBe(true);
  expect(told).toEqual(["commit", "pushed"]);
});

test("on to the remote forward only: a branch that somebody moved is never overwritten", async () => {
  const head = await gate.head();
  expect(await gate.push(head, "token")).toBe("pushed");
  const theirs = await git(join(folder, "seed"), "rev-parse", "hidden");
  await git(join(folder, "seed"), "push", "-qf", remote, "hidden:refs/heads/trimo/1-x");
  await git(work, "commit", "--allow-empty", "-qm", "Three");
  await git(work, "push", "-q", "origin", "HEAD:trimo/1-x");
  expect(await gate.push(await gate.head(), "token")).toBe("moved");
  expect(await git(remote, "rev-parse", "trimo/1-x")).toBe(theirs);
  const away = new GitRepositories(join(folder, "data"), join(folder, "nowhere")).openGate(named);
  expect(await away.push(head, "token")).toHaveProperty("unreachable");
});

/** A clock whose sleeps take no time; what it was asked to sleep. */
function jumping() {
  const slept: number[] = [];
  let at = 1_800_000_000_000;
  const clock = {
    ...systemClock,
    now: () => at,
    sleep: async (ms: number) => {
      slept.push(ms);
      at += ms;
    },
  };
  return { clock, slept };
}

/** A branch of its own on the remote, a gate for it, and the run's first commit in the gate. */
async function pusherOn(branch: string, clock = jumping().clock) {
  const start = await git(remote, "rev-parse", "trunk");
  await git(remote, "update-ref", `refs/heads/${branch}`, start);
  const request = { repository: "acme/app", branch, token: "token" };
  const fetched = await repositories.fetch(request, new AbortController().signal);
  const place = join(folder, `${branch.replaceAll("/", "-")}.git`);
  const own = await repositories.makeGate(
    { folder: place, repository: "acme/app", branch },
    fetched.folder,
    start,
  );
  const tree = await git(place, "rev-parse", `${start}^{tree}`);
  const head = await git(place, "commit-tree", tree, "-p", start, "-m", "Work");
  await git(place, "update-ref", `refs/heads/${branch}`, head);
  const pusher = new Pusher({
    isOurs: () => true,
    gate: own,
    at: { told: start, onGitHub: start, start },
    token: async () => "token",
    clock,
    tell: () => {},
    signal: new AbortController().signal,
  });
  return { pusher, head, tree };
}

/** What the remote says to a push until the test is over: `times` refusals, then yes. */
async function refusing(words: string, times: number, work: () => Promise<void>) {
  const hook = join(remote, "hooks/update");
  const count = join(folder, "refusals");
  writeFileSync(count, "");
  const script = `[ $(wc -c < ${count}) -ge ${times} ] && exit 0\nprintf x >> ${count}\necho "${words}" >&2; exit 1`;
  writeFileSync(hook, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  try {
    await work();
  } finally {
    rmSync(hook);
  }
}

test("GitHub that refuses twice in passing has the commits at the third push", async () => {
  await refusing("not now", 2, async () => {
    const { clock, slept } = jumping();
    const { pusher, head } = await pusherOn("trimo/2-once", clock);
    expect(await pusher.finish("trimo/2-once-run-1", briefly)).toEqual({ ok: true, head });
    expect(slept).toHaveLength(2);
  });
});

test("a refusal is believed after three over ninety seconds, and the work goes beside", async () => {
  await refusing("protected branch", 3, async () => {
    const { clock, slept } = jumping();
    const { pusher } = await pusherOn("trimo/3-never", clock);
    const verdict = await pusher.finish("trimo/3-never-run-1", briefly);
    expect(verdict).toMatchObject({ ok: false, why: "refused", kept: "trimo/3-never-run-1" });
    expect(slept.reduce((a, b) => a + b, 0)).toBeGreaterThanOrEqual(90_000);
  });
});

test("somebody who pushes on top of a run's commit takes nothing from it", async () => {
  const { pusher, head, tree } = await pusherOn("trimo/4-top");
  await refusing("", 0, async () => {
    pusher.nudge();
    await expect.poll(() => git(remote, "rev-parse", "trimo/4-top")).toBe(head);
    const top = await git(remote, "commit-tree", tree, "-p", head, "-m", "On top");
    await git(remote, "update-ref", "refs/heads/trimo/4-top", top);
    expect(await pusher.finish("trimo/4-top-run-1", briefly)).toEqual({ ok: true, head });
  });
});

test("a fetch goes on as long as bytes arrive, however long; one without any is ended", async () => {
  const host = new HostRepositories(join(folder, "slow"));
  await host.add("acme/big", null, "main");
  const noise = randomBytes(900_000).toString("base64");
  await host.commitFile("acme/big", "main", "NOISE", noise, "Big");
  // Hands on 40 KB each 200 ms, or nothing at all.
  let stuck = false;
  const slow = createServer((request, response) => {
    const answer = new PassThrough();
    const copy = Object.assign(answer, {
      setHeader: response.setHeader.bind(response),
      writeHead: response.writeHead.bind(response),
    });
    const path = new URL(request.url ?? "/", "http://x").pathname.replace("/x.git", "");
    host.serve("acme/big", path, request, copy as never);
    let queue = Buffer.alloc(0);
    answer.on("data", (chunk: Buffer) => {
      queue = Buffer.concat([queue, chunk]);
    });
    const isPack = request.method === "POST";
    const timer = setInterval(() => {
      if (stuck && isPack) return;
      response.write(queue.subarray(0, 40_000));
      queue = queue.subarray(40_000);
      if (queue.length > 0 || !answer.readableEnded) return;
      clearInterval(timer);
      response.end();
    }, 200);
    response.on("close", () => clearInterval(timer));
  });
  await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
  const from = `http://127.0.0.1:${(slow.address() as AddressInfo).port}/x.git`;
  const to = join(folder, "slow.git");
  await run("git", ["init", "-q", "--bare", to], { env });
  const fetchIt = (ref: string) =>
    gitIn(to, null, undefined, 2_000)(["fetch", "--quiet", from, `main:${ref}`]);
  const beganAt = Date.now();
  await fetchIt("one");
  // Longer than it may be silent.
  expect(Date.now() - beganAt).toBeGreaterThan(2_000);
  stuck = true;
  await git(to, "update-ref", "-d", "refs/heads/one");
  await run("rm", ["-rf", join(to, "objects")]);
  await run("git", ["init", "-q", "--bare", to], { env });
  const error = await fetchIt("two").catch((failure) => failure as GitError);
  expect((error as GitError).kind).toBe("away");
  slow.closeAllConnections();
  slow.close();
});

test("a bundle of what GitHub has not taken leans on nothing but GitHub", async () => {
  const bundle = join(folder, "kept/run-1.bundle");
  const base = await git(remote, "rev-parse", "trunk");
  await gate.bundle(bundle, base);
  await run("git", ["clone", "-q", remote, join(folder, "elsewhere")], { env });
  const there = join(folder, "elsewhere");
  // Not even the mirror that the gate leans on.
  rmSync(join(folder, "data/mirrors"), { recursive: true });
  await git(there, "fetch", "-q", bundle, "trimo/1-x:kept");
  expect(await git(there, "rev-parse", "kept")).toBe(await gate.head());
  expect(await git(there, "log", "-1", "--format=%s", "kept")).toBe("Three");
});

test("kept commits are pushed beside the branch once GitHub takes them, also without the mirror; then nothing is kept", async () => {
  const data = join(folder, "data");
  const kept: Kept = {
    run: "aaaaaaaaaaaa",
    attempt: 1,
    number: 3,
    repository: "acme/app",
    branch: named.branch,
    title: "Fix it",
    since: 1,
    commits: join(data, "kept/aaaaaaaaaaaa-1.bundle"),
    volume: null,
  };
  const { signal } = new AbortController();
  const wanted = { repository: "acme/app", branch: named.branch, token: "token" };
  await repositories.fetch(wanted, signal);
  await gate.bundle(kept.commits ?? "", await git(remote, "rev-parse", "trunk"));
  recordKept({ disk: fileDisk, config: { data } }, kept);
  rmSync(join(data, "mirrors"), { recursive: true, force: true });
  const asked: unknown[] = [];
  let answer: () => { token: string; expiresAt: number } = () => {
    throw new ServerError("unreachable", "nobody there");
  };
  const parts = {
    disk: fileDisk,
    config: { data },
    repositories,
    server: {
      token: async (...args: unknown[]) => {
        asked.push(args.slice(0, 2));
        return answer();
      },
    },
    log: pino({ level: "silent" }),
  };
  expect(await pushKept(parts, signal)).toMatchObject([{ ok: false, beside: "trimo/1-x-run-3" }]);
  answer = () => ({ token: "token", expiresAt: Number.MAX_SAFE_INTEGER });
  // GitHub refuses it once more.
  const hook = join(remote, "hooks/pre-receive");
  writeFileSync(hook, "#!/bin/sh\nexit 1\n", { mode: 0o755 });
  expect(await pushKept(parts, signal)).toMatchObject([
    { ok: false, why: expect.stringContaining("declined") },
  ]);
  expect(readKept(parts)).toEqual([kept]);
  rmSync(hook);
  expect(await pushKept(parts, signal)).toMatchObject([{ ok: true }]);
  expect(await git(remote, "rev-parse", "trimo/1-x-run-3")).toBe(await gate.head());
  expect(readKept(parts)).toEqual([]);
  expect(existsSync(kept.commits ?? "")).toBe(false);
  expect(asked.at(-1)).toEqual([kept.run, { attempt: 1, purpose: "kept", fresh: true }]);
});

test("a branch whose name was a folder's, or a folder of another's, is fetched; so is what a killed git had locked", async () => {
  const { signal } = new AbortController();
  const fetch = (branch: string) =>
    repositories.fetch({ repository: "acme/app", branch, token: "token" }, signal);
  const trunk = await git(remote, "rev-parse", "trunk");
  await git(remote, "branch", "fix", "trunk");
  expect((await fetch("fix")).branchSha).toBe(trunk);
  await git(remote, "branch", "-D", "fix");
  await git(remote, "branch", "fix/login", "trunk");
  const fetched = await fetch("fix/login");
  expect(fetched.branchSha).toBe(trunk);
  await git(remote, "branch", "-D", "fix/login");
  await git(remote, "branch", "fix", "trunk");
  expect((await fetch("fix")).branchSha).toBe(trunk);
  // As a process finds them that was started after a power cut.
  await git(join(folder, "seed"), "commit", "-q", "--allow-empty", "-m", "On");
  await git(join(folder, "seed"), "push", "-q", remote, "HEAD:trunk");
  for (const name of ["packed-refs.lock", "refs/trimo/default.lock", "shallow.lock"])
    writeFileSync(join(fetched.folder, name), "");
  const restarted = new GitRepositories(join(folder, "data"), join(folder, "remote"));
  const wanted = { repository: "acme/app", branch: "fix", token: "token" };
  const next = await restarted.fetch(wanted, signal);
  expect(next.defaultSha).toBe(await git(remote, "rev-parse", "trunk"));
});

test("a mirror with broken objects is made anew beside, also for the next daemon, and gates that lean on it stay", async () => {
  const again = new GitRepositories(join(folder, "data"), join(folder, "remote"));
  const wanted = { repository: "acme/app", branch: "trimo/1-x", token: "token" };
  const fetch = async (by: GitRepositories) => await by.fetch(wanted, new AbortController().signal);
  const before = await fetch(again);
  // As a power cut leaves files that were just written.
  const objects = join(before.folder, "objects");
  await run("bash", ["-c", `find ${objects} -type f ! -path '*/info/*' -exec truncate -s 0 {} +`]);
  await git(join(folder, "seed"), "commit", "--allow-empty", "-qm", "After the power cut");
  await git(join(folder, "seed"), "push", "-q", remote, "HEAD:trunk");
  const after = await fetch(again);
  expect(after.folder).toBe(`${before.folder}~2`);
  expect(after.defaultSha).toBe(await git(remote, "rev-parse", "trunk"));
  expect(existsSync(join(before.folder, "HEAD"))).toBe(true);
  const next = new GitRepositories(join(folder, "data"), join(folder, "remote"));
  expect((await next.known("acme/app"))?.folder).toBe(after.folder);
  expect((await fetch(next)).folder).toBe(after.folder);
});

test("a mirror is packed after a week, and what broke before goes; a new one is left alone", async () => {
  const data = join(folder, "tidy");
  const tidied = new GitRepositories(data, join(folder, "remote"));
  const wanted = { repository: "acme/app", branch: "trimo/1-x", token: "token" };
  const { signal } = new AbortController();
  const mirror = (await tidied.fetch(wanted, signal)).folder;
  await git(mirror, "commit-tree", "-m", "Of nobody", "refs/trimo/default^{tree}");
  const loose = async () => Number((await git(mirror, "count-objects")).split(" ")[0]);
  const day = 24 * 3_600_000;
  await tidied.tidy(day, signal);
  await tidied.tidy(7 * day, signal);
  expect(await loose()).toBeGreaterThan(0);
  await tidied.tidy(8 * day, signal);
  expect(await loose()).toBe(0);
  expect((await tidied.fetch(wanted, signal)).defaultSha).toBe(
    await git(remote, "rev-parse", "trunk"),
  );
  await run("cp", ["-r", mirror, `${mirror}~2`]);
  await tidied.tidy(8 * day, signal);
  expect([existsSync(mirror), existsSync(`${mirror}~2`)]).toEqual([false, true]);
});
