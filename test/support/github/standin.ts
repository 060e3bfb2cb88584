import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openConformance } from "./conformance.ts";
import { Deliveries } from "./deliveries.ts";
import { type Emulator, startEmulator } from "./emulator.ts";
import { takeFault } from "./faults.ts";
import { serveGit } from "./git-http.ts";
import type { Comment, Json, Pull } from "./objects.ts";
import { page } from "./page.ts";
import { createPeople } from "./people.ts";
import { Repositories } from "./repositories.ts";
import { app, permissions, tokens } from "./routes/app.ts";
import { checks } from "./routes/checks.ts";
import { comments, isNewComment, reactions } from "./routes/comments.ts";
import { commits } from "./routes/commits.ts";
import { contents } from "./routes/contents.ts";
import { graphql, pullAsIssue, pulls, pullsFromGit } from "./routes/pulls.ts";
import { refs } from "./routes/refs.ts";
import type { Answer, Call, World } from "./routes/route.ts";
import { appId, bot, type Seed, State } from "./state.ts";

// GitHub, as far as Trimo needs it, on this machine: `emulate` keeps users, issues, labels, comments
// and tokens; this front adds what it lacks: git over HTTP, pull requests and refs from git, real
// token checks, check runs with GitHub's own rules, deliveries with GUIDs and redelivery; and faults.

/** Each answers what it knows, in this order; what none knows, emulate does. */
const routes = [
  permissions,
  graphql,
  app,
  refs,
  commits,
  contents,
  pulls,
  pullAsIssue,
  checks,
  reactions,
];
/** What is added to emulate's answers. */
const overlays = [tokens, pullsFromGit, comments];

export async function startStandIn(seed: Seed) {
  const root = await mkdtemp(join(tmpdir(), "trimo-github-"));
  const repositories = new Repositories(root);
  const state = new State(seed, repositories);
  const server = createServer((request, response) => {
    serve(request, response).catch((error) => {
      process.stderr.write(`stand-in: ${request.method} ${request.url}: ${error.stack}\n`);
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
  });
  // A test that has held up this process must not find all its connections closed.
  server.keepAliveTimeout = 600_000;
  await new Promise<void>((resolve) => server.listen(seed.port ?? 0, "127.0.0.1", resolve));
  const port = (server.address() as AddressInfo).port;
  const url = `http://127.0.0.1:${port}`;
  for (const { fullName, source } of seed.repositories)
    await repositories.add(fullName, source, "main");
  const conforms = await openConformance();
  const deliveries = new Deliveries(state, url);
  const emulator = await startEmulator(state, url);

  async function serve(request: IncomingMessage, response: ServerResponse) {
    const path = (request.url ?? "/").split("?")[0] ?? "/";
    const git = /^\/([^/]+\/[^/]+)\.git(\/.*)$/.exec(path);
    if (git) return serveGit(state, git[1] ?? "", git[2] ?? "", request, response);
    const body = await readBody(request);
    if (path === "/_deliver") {
      send(response, { status: 200, body: {} });
      const event = String(request.headers["x-github-event"]);
      return await deliveries.capture(event, JSON.parse(body) as Json);
    }
    if (path.startsWith("/api/")) return await serveApi(path, body, request, response);
    const html = await page(path, standIn);
    response.writeHead(html ? 200 : 404, { "content-type": "text/html; charset=utf-8" });
    response.end(html ?? "Not Found");
  }

  async function serveApi(
    apiPath: string,
    text: string,
    request: IncomingMessage,
    response: ServerResponse,
  ) {
    const holder = state.holderOf(request.headers.authorization ?? "");
    if (!holder) return send(response, { status: 401, body: { message: "Bad credentials" } });
    const path = apiPath === "/api/graphql" ? "/graphql" : apiPath.replace(/^\/api\/v3/, "");
    const method = request.method ?? "GET";
    const line = `${method} ${decodeURIComponent(path)}`;
    const ours = holder.kind !== "person";
    const body = text ? (JSON.parse(text) as Json) : undefined;
    const query = (request.url ?? "").split("?")[1] ?? "";
    const breach = ours && path !== "/graphql" && conforms({ method, path, query, body });
    if (breach) state.breaches.push(breach);
    const fault = ours ? takeFault(state.faults, line) : null;
    if (fault?.delayMs) await new Promise((resolve) => setTimeout(resolve, fault.delayMs));
    const at = Date.now();
    const faulty = (): Answer => {
      const status = fault?.status ?? 500;
      return { status, body: { message: "a fault of the test's" }, headers: fault?.headers ?? {} };
    };
    if (fault?.at === "before") {
      state.requests.push({ at, line, status: fault.status });
      return send(response, faulty());
    }
    const [, fullName = "", below = ""] = /^\/repos\/([^/]+\/[^/]+)\/(.*)$/.exec(path) ?? [];
    const call: Call = {
      path,
      fullName,
      route: `${method} ${decodeURIComponent(below)}`,
      body: body ?? {},
      query: new URLSearchParams(query),
      holder,
    };
    const answer = await answerTo(call, world, () => emulator.ask(request, path, text));
    state.requests.push({ at, line, status: answer.status });
    await fault?.act?.();
    send(response, fault ? faulty() : answer);
  }

  async function api(login: string, method: string, path: string, body?: unknown): Promise<Json> {
    const reads = method === "GET" && login === state.first;
    const response = await fetch(`${url}/api/v3${path}`, {
      method,
      headers: {
        authorization: `Bearer ${reads ? state.readerToken() : state.tokenOf(login)}`,
        "content-type": "application/json",
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} as ${login}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : {};
  }

  const world: World = {
    state,
    url,
    deliveries,
    api,
    async pulls(fullName, which = "all") {
      const path = `/repos/${fullName}/pulls?state=${which}&per_page=100`;
      return (await api(state.first, "GET", path)) as unknown as Pull[];
    },
  };
  const standIn = {
    ...world,
    ...handles(world),
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await emulator.close();
      await rm(root, { recursive: true, force: true });
    },
  };
  return standIn;
}

async function answerTo(call: Call, world: World, emulated: Emulated): Promise<Answer> {
  for (const route of routes) {
    const answer = await route(call, world);
    if (answer) return answer;
  }
  const ofApp = isNewComment(call.route) && call.holder.kind === "installation";
  const ask = async () => {
    let answer = await emulated();
    if (answer.status >= 400) return answer;
    for (const overlay of overlays) answer = await overlay(answer, call, world);
    return answer;
  };
  return ofApp ? await world.deliveries.ofAppComment(ask) : await ask();
}

type Emulated = () => ReturnType<Emulator["ask"]>;

/** What a test does and looks at. */
function handles(world: World) {
  const { state, url, api } = world;
  return {
    appId,
    first: state.first,
    privateKey: state.privateKey,
    webhookSecret: state.webhookSecret,
    repositories: state.repositories,
    people: createPeople(world),
    newId: () => state.newId(),
    installationOf: (owner: string) => state.installationOf(owner),
    tokenOf: (login: string) => state.tokenOf(login),
    capture: (event: string, payload: Json) => world.deliveries.capture(event, payload),
    /** What the app's environment needs to speak with this GitHub. */
    env: {
      APP_ID: String(appId),
      PRIVATE_KEY: state.privateKey,
      WEBHOOK_SECRET: state.webhookSecret,
      GHE_HOST: new URL(url).host,
      GHE_PROTOCOL: "http",
    },
    deliverTo(app: string) {
      state.deliverTo = `${app}/api/github/webhooks`;
    },
    async openIssue(login: string, fullName: string, title: string, body: string) {
      const issue = await api(login, "POST", `/repos/${fullName}/issues`, { title, body });
      return issue.number as number;
    },
    async label(login: string, fullName: string, issue: number, ...labels: string[]) {
      await api(login, "POST", `/repos/${fullName}/issues/${issue}/labels`, { labels });
    },
    async comment(login: string, fullName: string, issue: number, body: string) {
      const path = `/repos/${fullName}/issues/${issue}/comments`;
      return (await api(login, "POST", path, { body })).id as number;
    },
    async comments(fullName: string, issue: number): Promise<Comment[]> {
      const path = `/repos/${fullName}/issues/${issue}/comments?per_page=100`;
      const list = (await api(state.first, "GET", path)) as unknown as Comment[];
      return list.map((row) => ({
        ...row,
        user: state.byApp.has(row.id) ? { login: bot.login } : row.user,
        edits: state.edits.get(row.id) ?? 0,
      }));
    },
    checks: (fullName: string) => state.checks.filter((row) => row.repository === fullName),
  };
}

function send(response: ServerResponse, { status, body, headers = {} }: Answer) {
  response.writeHead(status, { "content-type": "application/json; charset=utf-8", ...headers });
  response.end(body === null ? undefined : JSON.stringify(body));
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}
