import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import {
  createGitHubProxy,
  type GitHubProxy,
  serveGitHub,
} from "../../../daemon/gateway/github-reads.ts";

// The gateway's door to GitHub, as `gh` inside knocks at it; GitHub itself only counts here.

let github: Server;
let gateway: Server;
let proxy: GitHubProxy;
let asked: { url: string; token: string; etag: string }[] = [];
let comments: string[] = [];
let now = 1_000;
const url = (server: Server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
const listen = (server: Server) =>
  new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

beforeAll(async () => {
  github = createServer((request, response) => {
    const etag = String(request.headers["if-none-match"] ?? "");
    asked.push({ url: request.url ?? "", token: String(request.headers.authorization), etag });
    if (request.url?.includes("/issues/404")) return void response.writeHead(404).end("{}");
    if (request.url?.includes("/issues/301"))
      return void response.writeHead(301, { location: "http://127.0.0.1:1/" }).end("{}");
    if (request.url?.includes("/issues/9")) return void response.end("x".repeat(6 * 2 ** 20));
    if (etag === '"1"') return void response.writeHead(304).end();
    const link = `<${url(github)}/repos/acme/app/issues?page=2>; rel="next"`;
    response.writeHead(200, { etag: '"1"', link, "content-type": "application/json" }).end("[1]");
  });
  gateway = createServer((request, response) => void serveGitHub(proxy, request, response));
  await Promise.all([listen(github), listen(gateway)]);
});
afterAll(() => {
  github.close();
  gateway.close();
});
beforeEach(() => {
  asked = [];
  comments = [];
  const job = { repository: "acme/app", branch: "trimo/1-x", issue: 1 };
  const clock = { ...systemClock, now: () => now, sleep: async () => {} };
  proxy = createGitHubProxy(
    url(github),
    job,
    async () => "secret",
    (text) => comments.push(text) > 0,
    clock,
  );
});

const get = async (path: string) => await fetch(`${url(gateway)}/github${path}`);

test("what is said about the repository is read with the token, which stays outside", async () => {
  for (const path of [
    "",
    "/issues",
    "/issues/3/comments?page=2",
    "/pulls/4/files",
    "/commits/abcdef1/check-runs",
    "/milestones/2",
  ]) {
    const answer = await get(`/repos/acme/app${path}`);
    expect([path, answer.status]).toEqual([path, 200]);
    expect(await answer.text()).not.toContain("secret");
  }
  expect(new Set(asked.map(({ token }) => token))).toEqual(new Set(["Bearer secret"]));
});

test.each([
  "/user",
  "/repos/acme/other/issues",
  "/repos/acme/app2",
  "/repos/acme/app/contents/README.md",
  "/repos/acme/app/git/trees/main",
  "/repos/acme/app/compare/a...b",
  "/repos/acme/app/../other/issues",
  "/repos/acme/app/%2e%2e/other",
  "/repos/acme/app/issues/../../../../user",
  "/repos/acme/app/actions/secrets",
  "/repos/acme/app/collaborators",
  "/installation/repositories",
])("%s is refused with a sentence, and GitHub is not asked", async (path) => {
  const answer = await get(path);
  expect(answer.status).toBe(403);
  expect(await answer.text()).toContain("can be read here");
  expect(asked).toEqual([]);
});

test("nothing is written, whatever the method", async () => {
  for (const method of ["POST", "PATCH", "PUT", "DELETE"]) {
    const answer = await fetch(`${url(gateway)}/github/repos/acme/app/issues`, { method });
    expect(answer.status).toBe(403);
  }
  expect(asked).toEqual([]);
});

test("an answer is given again while it is fresh, then asked for with its tag; pages lead back here", async () => {
  const answer = await get("/repos/acme/app/issues");
  expect(answer.headers.get("link")).toBe(
    '<http://127.0.0.1:3128/github/repos/acme/app/issues?page=2>; rel="next"',
  );
  await get("/repos/acme/app/issues");
  expect(asked).toHaveLength(1);
  now += 30_000;
  expect(await (await get("/repos/acme/app/issues")).text()).toBe("[1]");
  expect(asked.map(({ etag }) => etag)).toEqual(["", '"1"']);
});

test("a run asks 300 times at most; errors count, and are not kept", async () => {
  for (let i = 0; i < 300; i++) expect((await get("/repos/acme/app/issues/404")).status).toBe(404);
  const answer = await get("/repos/acme/app/issues/5");
  expect([answer.status, await answer.text()]).toEqual([429, expect.stringContaining("300 times")]);
});

test("a redirect is not followed with the token, and a large answer is refused", async () => {
  expect((await get("/repos/acme/app/issues/301")).status).toBe(301);
  const large = await get("/repos/acme/app/issues/9");
  expect(large.status).toBe(502);
  expect(await large.text()).toContain("more than 5 MB");
});

test("ten comments are taken, none empty or too long", async () => {
  const say = async (body: string) =>
    (await fetch(`${url(gateway)}/github/comment`, { method: "POST", body })).status;
  expect(await say("  ")).toBe(422);
  expect(await say("x".repeat(9_000))).toBe(422);
  for (let i = 0; i < 10; i++) expect(await say(`No. ${i}`)).toBe(202);
  expect(await say("one more")).toBe(429);
  expect(comments).toHaveLength(10);
});
