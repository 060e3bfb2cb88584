import { createHmac, generateKeyPairSync, randomBytes, randomUUID } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createEmulator } from "emulate";
import { type Breach, openConformance } from "./conformance.ts";
import { type DeliveryFault, type Fault, takeFault } from "./faults.ts";
import type { CheckRun, Comment, Json, Pull } from "./objects.ts";
import { page } from "./page.ts";
import { createPeople } from "./people.ts";
import { type Person, Repositories } from "./repositories.ts";

// GitHub, as far as Trimo needs it, on this machine: `emulate` keeps users, issues, labels, comments
// and tokens; this front adds what it lacks: git over HTTP, pull requests and refs from git, real
// token checks, check runs with GitHub's own rules, deliveries with GUIDs and redelivery; and faults.

type Seed = {
  /** `owner/name`; `source` is a local repository to clone, or null for an empty one. */
  repositories: { fullName: string; source: string | null }[];
  /** Logins with what they may do in every repository. */
  people: Record<string, "admin" | "push" | "pull" | "triage">;
  port?: number;
};

type Delivery = {
  id: number;
  guid: string;
  event: string;
  action: string | null;
  status: number;
  body: string;
  at: string;
};
type Holder =
  | { kind: "person"; login: string }
  | { kind: "app" }
  | {
      kind: "installation";
      account: string;
      repositories: string[] | null;
      permissions: Record<string, string>;
    };

const appId = 4242;
const installationId = 77;
const slug = "trimo";
/** GitHub's limit for summary and text of a check run, in bytes. */
const checkBytesMax = 65_535;

export async function startStandIn(seed: Seed) {
  const root = await mkdtemp(join(tmpdir(), "trimo-github-"));
  const repositories = new Repositories(root);
  const { privateKey } = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  });
  const webhookSecret = randomBytes(20).toString("hex");
  const tokens = new Map<string, Holder>();
  for (const login of Object.keys(seed.people))
    tokens.set(`ghp_${login}_${randomBytes(8).toString("hex")}`, { kind: "person", login });
  // emulate allows each token 5,000 requests an hour; a test that looks often reads with many.
  const first = Object.keys(seed.people)[0] ?? "";
  const readers = Array.from({ length: 60 }, (_, i) => `ghp_reader_${i}`);
  for (const token of readers) tokens.set(token, { kind: "person", login: first });
  let turn = 0;
  const tokenOf = (login: string) =>
    [...tokens].find(([, holder]) => holder.kind === "person" && holder.login === login)?.[0] ?? "";

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

  const owners = [...new Set(seed.repositories.map((row) => row.fullName.split("/")[0] ?? ""))];
  const permissions = {
    contents: "write",
    pull_requests: "write",
    issues: "write",
    checks: "write",
    metadata: "read",
  };
  const events = ["issues", "issue_comment"];
  const emulatorPort = await freePort();
  const emulatorUrl = `http://127.0.0.1:${emulatorPort}`;
  const emulator = await createEmulator({
    service: "github",
    port: emulatorPort,
    baseUrl: `${url}/api/v3`,
    seed: {
      tokens: Object.fromEntries(
        [...tokens].map(([token, holder]) => [
          token,
          { login: holder.kind === "person" ? holder.login : "", scopes: ["repo"] },
        ]),
      ),
      github: {
        users: Object.keys(seed.people).map((login) => ({ login, name: login })),
        // One owner, the first of the people; every other member would be an admin too.
        orgs: owners.map((login) => ({
          login,
          members: [{ login: Object.keys(seed.people)[0], role: "admin" }],
        })),
        repos: seed.repositories.map(({ fullName }) => {
          const [owner, name] = fullName.split("/");
          return { owner, name, default_branch: "main" };
        }),
        apps: [
          {
            app_id: appId,
            slug,
            name: "Trimo",
            private_key: privateKey,
            permissions,
            events,
            webhook_url: `${url}/_deliver`,
            installations: owners.map((account, index) => ({
              installation_id: installationId + index,
              account,
              repository_selection: "all",
            })),
          },
        ],
      },
    },
  });
  const conforms = await openConformance();
  /** Comments of the App's that emulate is being told of. */
  let appComments = 0;

  // ── state of what the front keeps itself ──
  const state = {
    checks: [] as CheckRun[],
    drafts: new Map<string, boolean>(),
    byApp: new Set<number>(),
    edits: new Map<number, number>(),
    reactions: [] as { comment: number; content: string }[],
    reviews: [] as (Json & { fullName: string; pull: number })[],
    reviewComments: [] as (Json & { fullName: string; pull: number; created_at: string })[],
    deliveries: [] as Delivery[],
    deliverTo: null as string | null,
    deliveryFault: "none" as DeliveryFault,
    faults: [] as Fault[],
    /** How long git over HTTP does not answer. */
    gitDelayMs: 0,
    breaches: [] as Breach[],
    /** Every request of the app's, as `METHOD /path`, with its time. */
    requests: [] as { at: number; line: string; status: number }[],
    mintedTokens: [] as string[],
  };
  let nextId = 1000;

  async function serve(request: IncomingMessage, response: ServerResponse) {
    const path = (request.url ?? "/").split("?")[0] ?? "/";
    const git = /^\/([^/]+\/[^/]+)\.git(\/.*)$/.exec(path);
    if (git) return serveGit(git[1] ?? "", git[2] ?? "", request, response);
    const body = await readBody(request);
    if (path === "/_deliver") {
      send(response, 200, {});
      const event = String(request.headers["x-github-event"]);
      return await capture(event, JSON.parse(body) as Json);
    }
    if (path.startsWith("/api/")) return await serveApi(path, body, request, response);
    const html = await page(path, standIn);
    response.writeHead(html ? 200 : 404, { "content-type": "text/html; charset=utf-8" });
    response.end(html ?? "Not Found");
  }

  async function serveApi(
    path: string,
    body: string,
    request: IncomingMessage,
    response: ServerResponse,
  ) {
    const holder = holderOf(request.headers.authorization ?? "");
    if (!holder) return send(response, 401, { message: "Bad credentials" });
    const rest = path === "/api/graphql" ? "/graphql" : path.replace(/^\/api\/v3/, "");
    const line = `${request.method} ${decodeURIComponent(rest)}`;
    const ours = holder.kind !== "person";
    const parsed = body ? (JSON.parse(body) as Json) : undefined;
    if (ours && rest !== "/graphql") {
      const query = (request.url ?? "").split("?")[1] ?? "";
      const method = request.method ?? "GET";
      const breach = conforms({ method, path: rest, query, body: parsed });
      if (breach) state.breaches.push(breach);
    }
    const fault = ours ? takeFault(state.faults, line) : null;
    if (fault?.delayMs) await new Promise((resolve) => setTimeout(resolve, fault.delayMs));
    const at = Date.now();
    if (fault?.at === "before") {
      state.requests.push({ at, line, status: fault.status });
      return send(response, fault.status, { message: "a fault of the test's" }, fault.headers);
    }
    const answer = await handle(request, rest, parsed, holder, body);
    state.requests.push({ at, line, status: answer.status });
    await fault?.act?.();
    if (fault)
      return send(response, fault.status, { message: "a fault of the test's" }, fault.headers);
    send(response, answer.status, answer.body, answer.headers);
  }

  type Answer = { status: number; body: unknown; headers?: Record<string, string> };
  async function handle(
    request: IncomingMessage,
    rest: string,
    body: Json | undefined,
    holder: Holder,
    raw: string,
  ): Promise<Answer> {
    const query = new URLSearchParams((request.url ?? "").split("?")[1] ?? "");
    const method = request.method ?? "GET";
    const match = /^\/repos\/([^/]+\/[^/]+)\/(.*)$/.exec(rest);
    const fullName = match?.[1] ?? "";
    const door = `${method} ${decodeURIComponent(match?.[2] ?? "")}`;
    if (match && holder.kind === "installation") {
      const refused = needs(holder, fullName, door);
      if (refused) return refused;
    }
    if (rest === "/graphql") return graphql(body ?? {});
    if (rest.startsWith("/app/hook/deliveries")) return await hookDeliveries(method, rest);
    if (rest === "/app/installations") return { status: 200, body: installations() };
    if (rest === "/installation/repositories") return await accessible(holder);
    const own = match ? await gitDoor(fullName, door, body ?? {}, query) : null;
    if (own) return own;
    const commented = holder.kind === "installation" && /^POST issues\/\d+\/comments$/.test(door);
    if (commented) appComments += 1;
    try {
      const answer = await toEmulator(request, rest, raw);
      return await overlay(fullName, door, answer, holder, rest);
    } finally {
      if (commented) appComments -= 1;
    }
  }

  function installations() {
    return owners.map((login, index) => ({
      id: installationId + index,
      account: { login },
      suspended_at: null,
    }));
  }

  async function accessible(holder: Holder): Promise<Answer> {
    const mine = ({ fullName }: { fullName: string }) =>
      holder.kind !== "installation" || fullName.startsWith(`${holder.account}/`);
    const repositories = await Promise.all(
      seed.repositories.filter(mine).map(({ fullName }) => api(first, "GET", `/repos/${fullName}`)),
    );
    return { status: 200, body: { total_count: repositories.length, repositories } };
  }

  /** What an installation's token may do, as the App's permissions say. */
  function needs(
    holder: Extract<Holder, { kind: "installation" }>,
    fullName: string,
    door: string,
  ): Answer | null {
    if (holder.repositories && !holder.repositories.includes(fullName))
      return { status: 404, body: { message: "Not Found" } };
    const [method = "", path = ""] = door.split(" ");
    const kind =
      path.startsWith("check-runs") || path.endsWith("/check-runs")
        ? "checks"
        : path.startsWith("git/") || path.startsWith("contents")
          ? "contents"
          : path.startsWith("pulls")
            ? "pull_requests"
            : path.startsWith("issues")
              ? "issues"
              : "metadata";
    const has = holder.permissions[kind] ?? (kind === "metadata" ? "read" : "none");
    const write = method !== "GET";
    const ok = write ? has === "write" : has !== "none";
    return ok ? null : { status: 403, body: { message: "Resource not accessible by integration" } };
  }

  async function gitDoor(
    fullName: string,
    door: string,
    body: Json,
    query: URLSearchParams,
  ): Promise<Answer | null> {
    const repoUrl = `${url}/api/v3/repos/${fullName}`;
    const one = (pattern: RegExp) => pattern.exec(door)?.[1] ?? null;
    const refOf = one(/^GET git\/ref\/heads\/(.+)$/);
    if (refOf) {
      const sha = await repositories.resolve(fullName, `refs/heads/${refOf}`);
      if (!sha) return notFound;
      return {
        status: 200,
        body: {
          ref: `refs/heads/${refOf}`,
          node_id: "R",
          url: repoUrl,
          object: { type: "commit", sha, url: repoUrl },
        },
      };
    }
    const commitOf = one(/^GET git\/commits\/([0-9a-f]{40})$/);
    if (commitOf) {
      const commit = await repositories.commit(fullName, commitOf).catch(() => null);
      if (!commit) return notFound;
      return {
        status: 200,
        body: {
          sha: commitOf,
          message: commit.message,
          tree: { sha: commit.tree, url: repoUrl },
          parents: commit.parents.map((sha) => ({ sha })),
        },
      };
    }
    if (door === "POST git/commits") {
      const given = body as {
        message: string;
        tree: string;
        parents: string[];
        author?: Person;
        committer?: Person;
      };
      const now = {
        name: `${slug}[bot]`,
        email: `${slug}@example.com`,
        date: new Date().toISOString(),
      };
      const author = given.author ?? now;
      const sha = await repositories.write(fullName, {
        ...given,
        author,
        committer: given.committer ?? author,
      });
      return { status: 201, body: { sha, tree: { sha: given.tree }, message: given.message } };
    }
    if (door === "POST git/refs") {
      const { ref, sha } = body as { ref: string; sha: string };
      if (await repositories.resolve(fullName, ref))
        return { status: 422, body: { message: "Reference already exists" } };
      await repositories.git(fullName, ["update-ref", ref, sha]);
      return { status: 201, body: { ref, object: { type: "commit", sha } } };
    }
    const deleted = one(/^DELETE git\/refs\/(heads\/.+)$/);
    if (deleted) {
      if (!(await repositories.resolve(fullName, `refs/${deleted}`)))
        return { status: 422, body: { message: "Reference does not exist" } };
      await repositories.git(fullName, ["update-ref", "-d", `refs/${deleted}`]);
      return { status: 204, body: null };
    }
    const file = one(/^GET contents\/(.+)$/);
    if (file) {
      const ref = query.get("ref") ?? "main";
      const kind = await repositories
        .git(fullName, ["cat-file", "-t", `${ref}:${file}`])
        .catch(() => null);
      if (kind === "tree") {
        const names = await repositories.git(fullName, [
          "ls-tree",
          "--name-only",
          `${ref}:${file}`,
        ]);
        const entry = (name: string) => ({ name, path: `${file}/${name}`, type: "file" });
        return { status: 200, body: names.split("\n").filter(Boolean).map(entry) };
      }
      const content = await repositories
        .git(fullName, ["cat-file", "blob", `${ref}:${file}`])
        .catch(() => null);
      if (content === null) return notFound;
      return {
        status: 200,
        body: {
          type: "file",
          encoding: "base64",
          path: file,
          name: file,
          content: Buffer.from(`${content}\n`).toString("base64"),
        },
      };
    }
    return (await pullDoor(fullName, door, query)) ?? (await checkDoor(fullName, door, body));
  }

  /** What GitHub knows of a pull request from git, and its reviews. */
  async function pullDoor(
    fullName: string,
    door: string,
    query: URLSearchParams,
  ): Promise<Answer | null> {
    const [, base, head] = /^GET compare\/(.+)\.\.\.(.+)$/.exec(door) ?? [];
    if (base && head) {
      const count = async (range: string) =>
        Number(await repositories.git(fullName, ["rev-list", "--count", range]));
      const known = await Promise.all(
        [base, head].map((ref) => repositories.resolve(fullName, ref)),
      );
      if (known.includes(null)) return notFound;
      const [ahead, behind] = [await count(`${base}..${head}`), await count(`${head}..${base}`)];
      const status =
        ahead > 0 && behind > 0
          ? "diverged"
          : ahead > 0
            ? "ahead"
            : behind > 0
              ? "behind"
              : "identical";
      return {
        status: 200,
        body: {
          status,
          ahead_by: ahead,
          behind_by: behind,
          commits: [],
          merge_base_commit: { sha: await repositories.git(fullName, ["merge-base", base, head]) },
        },
      };
    }
    const [, number, kind] = /^GET pulls\/(\d+)\/(reviews|comments)$/.exec(door) ?? [];
    const of = Number(number);
    const mine = (row: { fullName: string; pull: number }) =>
      row.fullName === fullName && row.pull === of;
    const since = query.get("since") ?? "";
    if (kind === "reviews") return { status: 200, body: state.reviews.filter(mine) };
    if (kind === "comments") {
      const rows = state.reviewComments.filter((row) => mine(row) && row.created_at >= since);
      return { status: 200, body: rows };
    }
    return null;
  }

  async function checkDoor(fullName: string, door: string, body: Json): Promise<Answer | null> {
    const output = body.output as
      | { title: string; summary: string; text?: string; annotations?: Json[] }
      | undefined;
    if ((output?.annotations?.length ?? 0) > 50)
      return { status: 422, body: { message: "No more than 50 annotations" } };
    for (const text of [output?.summary, output?.text])
      if (text && Buffer.byteLength(text) > checkBytesMax)
        return { status: 422, body: { message: "Only 65535 characters are allowed" } };
    if (door === "POST check-runs") {
      const sha = String(body.head_sha);
      if (!(await repositories.resolve(fullName, sha)))
        return { status: 422, body: { message: "No commit found for SHA" } };
      const status = body.conclusion ? "completed" : String(body.status ?? "queued");
      const check: CheckRun = {
        id: nextId++,
        repository: fullName,
        head_sha: sha,
        name: String(body.name),
        external_id: String(body.external_id ?? ""),
        status,
        conclusion: (body.conclusion as string) ?? null,
        details_url: String(body.details_url ?? ""),
        started_at: (body.started_at as string) ?? null,
        completed_at: (body.completed_at as string) ?? null,
        app: { id: appId, name: "Trimo", slug },
        output: {
          title: output?.title ?? "",
          summary: output?.summary ?? "",
          text: output?.text ?? null,
          annotations_count: output?.annotations?.length ?? 0,
        },
        annotations: output?.annotations ?? [],
        actions: (body.actions as CheckRun["actions"]) ?? [],
        history: [status],
      };
      state.checks.push(check);
      return { status: 201, body: check };
    }
    const id = Number(/^PATCH check-runs\/(\d+)$/.exec(door)?.[1] ?? 0);
    if (id) {
      const check = state.checks.find((row) => row.id === id && row.repository === fullName);
      if (!check) return notFound;
      const status = body.conclusion ? "completed" : String(body.status ?? check.status);
      if (check.status === "completed" && status !== "completed")
        return { status: 422, body: { message: "A completed check run cannot be reopened" } };
      check.status = status;
      check.conclusion = (body.conclusion as string) ?? check.conclusion;
      check.started_at = (body.started_at as string) ?? check.started_at;
      check.completed_at = (body.completed_at as string) ?? check.completed_at;
      if (output) {
        const { annotations = [], ...rest } = output;
        // GitHub adds annotations to those it has.
        check.annotations.push(...annotations);
        const annotations_count = check.annotations.length;
        check.output = { ...check.output, ...rest, text: rest.text ?? null, annotations_count };
      }
      check.actions = (body.actions as CheckRun["actions"]) ?? check.actions;
      if (check.history.at(-1) !== status) check.history.push(status);
      return { status: 200, body: check };
    }
    const ref = /^GET commits\/(.+)\/check-runs$/.exec(door)?.[1];
    if (ref) {
      const sha = await repositories.resolve(fullName, ref);
      const found = state.checks
        .filter((row) => row.repository === fullName && row.head_sha === sha)
        .reverse();
      return { status: 200, body: { total_count: found.length, check_runs: found } };
    }
    const annotated = Number(/^GET check-runs\/(\d+)\/annotations$/.exec(door)?.[1] ?? 0);
    if (annotated) {
      const check = state.checks.find((row) => row.id === annotated);
      return check ? { status: 200, body: check.annotations } : notFound;
    }
    const reacted = Number(
      /^POST (?:issues|pulls)\/comments\/(\d+)\/reactions$/.exec(door)?.[1] ?? 0,
    );
    if (reacted) {
      const content = String(body.content);
      if (!state.reactions.some((row) => row.comment === reacted && row.content === content))
        state.reactions.push({ comment: reacted, content });
      return { status: 201, body: { id: reacted, content } };
    }
    if (door === "POST pulls")
      return await refusePull(fullName, body as { head: string; base: string });
    return null;
  }

  /** GitHub opens no pull request for a missing branch, without commits, or twice. */
  async function refusePull(
    fullName: string,
    { head, base }: { head: string; base: string },
  ): Promise<Answer | null> {
    const invalid = (message: string): Answer => ({
      status: 422,
      body: { message: "Validation Failed", errors: [{ message }] },
    });
    const sha = await repositories.resolve(fullName, `refs/heads/${head}`);
    if (!sha) return invalid("head is invalid");
    if ((await repositories.git(fullName, ["rev-list", "--count", `${base}..${sha}`])) === "0")
      return invalid(`No commits between ${base} and ${head}`);
    const open = await pulls(fullName, "open");
    return open.some((pull) => pull.head.ref === head)
      ? invalid(`A pull request already exists for ${head}`)
      : null;
  }

  /** Emulate's answers, with what only git and the front know. */
  async function overlay(
    fullName: string,
    door: string,
    answer: Answer,
    holder: Holder,
    rest: string,
  ): Promise<Answer> {
    if (answer.status >= 400) return answer;
    if (rest.endsWith("/access_tokens")) return minted(answer, rest);
    const fix = async (pull: Json) => await withGit(fullName, pull);
    if (/^(POST pulls|(GET|PATCH) pulls\/\d+)$/.test(door)) {
      const pull = answer.body as Json;
      if (door === "POST pulls")
        state.drafts.set(`${fullName}#${pull.number}`, pull.draft === true);
      const body = await fix(pull);
      const closed = door.startsWith("PATCH") && pull.state === "closed";
      if (holder.kind === "installation" && (closed || door === "POST pulls"))
        tellOfPull(fullName, closed ? "closed" : "opened", body);
      return { ...answer, body };
    }
    if (door === "GET pulls")
      return { ...answer, body: await Promise.all((answer.body as Json[]).map(fix)) };
    if (/^GET issues\/\d+\/comments$/.test(door))
      return { ...answer, body: (answer.body as Comment[]).map(byWhom) };
    const comment = answer.body as { id: number };
    if (/^POST issues\/\d+\/comments$/.test(door) && holder.kind === "installation")
      state.byApp.add(comment.id);
    const edited = Number(/^PATCH issues\/comments\/(\d+)$/.exec(door)?.[1] ?? 0);
    if (edited) state.edits.set(edited, (state.edits.get(edited) ?? 0) + 1);
    return answer;
  }

  /** GitHub tells the App also of what it did itself. */
  function tellOfPull(fullName: string, action: string, pull_request: Json) {
    const number = pull_request.number as number;
    const payload = { action, number, pull_request: { ...pull_request, merged: false } };
    // The stand-in may be stopped before it has told.
    standIn.people.deliver("pull_request", `${slug}[bot]`, fullName, payload).catch(() => {});
  }

  /** Emulate takes an App's comment for a person's. */
  function byWhom(comment: Comment) {
    const bot = { login: `${slug}[bot]`, type: "Bot" };
    return state.byApp.has(comment.id) ? { ...comment, user: bot } : comment;
  }

  function minted(answer: Answer, rest: string): Answer {
    const id = Number(/^\/app\/installations\/(\d+)\//.exec(rest)?.[1] ?? installationId);
    const account = owners[id - installationId] ?? "";
    const body = answer.body as {
      token: string;
      permissions: Record<string, string>;
      repositories?: { full_name: string }[];
    };
    const named = body.repositories?.map((row) => row.full_name) ?? null;
    tokens.set(body.token, {
      kind: "installation",
      account,
      repositories: named,
      permissions: body.permissions,
    });
    state.mintedTokens.push(body.token);
    return answer;
  }

  async function withGit(fullName: string, pull: Json): Promise<Json> {
    const head = pull.head as { ref: string; sha: string; repo?: Json };
    const base = pull.base as { ref: string; sha: string; repo?: Json };
    const key = `${fullName}#${pull.number}`;
    const found = await repositories.resolve(fullName, `refs/heads/${head.ref}`);
    // A pull request remembers its head when the branch is gone.
    if (found) lastHeads.set(key, found);
    const sha = found ?? lastHeads.get(key) ?? head.sha;
    const baseSha = (await repositories.resolve(fullName, `refs/heads/${base.ref}`)) ?? base.sha;
    const commits = await repositories
      .git(fullName, ["rev-list", "--count", `${baseSha}..${sha}`])
      .catch(() => "0");
    const draft = state.drafts.get(key) ?? false;
    return {
      ...pull,
      draft,
      head: { ...head, sha, repo: head.repo ?? { full_name: fullName } },
      base: { ...base, sha: baseSha },
      commits: Number(commits),
    };
  }

  function graphql(body: Json): Answer {
    const { query, variables } = body as { query: string; variables: { id: string } };
    if (!query.includes("markPullRequestReadyForReview"))
      return { status: 200, body: { errors: [{ message: "not understood" }] } };
    const key = nodeIds.get(variables.id);
    if (!key)
      return {
        status: 200,
        body: { errors: [{ type: "NOT_FOUND", message: "Could not resolve to a node" }] },
      };
    state.drafts.set(key, false);
    return {
      status: 200,
      body: { data: { markPullRequestReadyForReview: { pullRequest: { isDraft: false } } } },
    };
  }
  const nodeIds = new Map<string, string>();
  const pullNames = new Set<string>();
  const lastHeads = new Map<string, string>();

  async function toEmulator(request: IncomingMessage, rest: string, raw: string): Promise<Answer> {
    const query = (request.url ?? "").split("?")[1];
    const response = await fetchAgain(`${emulatorUrl}${rest}${query ? `?${query}` : ""}`, {
      method: request.method,
      headers: {
        authorization: request.headers.authorization ?? "",
        "content-type": "application/json",
      },
      ...(raw ? { body: raw } : {}),
    });
    const text = await response.text();
    const body = text ? JSON.parse(text) : null;
    const link = response.headers.get("link");
    const full = /^\/repos\/([^/]+\/[^/]+)\/pulls/.exec(rest)?.[1];
    for (const pull of [body].flat())
      if (full && pull?.number) {
        nodeIds.set(pull.node_id, `${full}#${pull.number}`);
        pullNames.add(`${full}#${pull.number}`);
      }
    return { status: response.status, body, ...(link ? { headers: { link } } : {}) };
  }

  // ── deliveries ──
  async function capture(event: string, payload: Json) {
    const comment = payload.comment as { id: number } | undefined;
    const issue = payload.issue as { number: number } | undefined;
    const full = (payload.repository as { full_name: string } | undefined)?.full_name ?? "";
    if (event === "issue_comment" && issue && pullNames.has(`${full}#${issue.number}`))
      payload = {
        ...payload,
        issue: {
          ...issue,
          pull_request: { url: `${url}/api/v3/repos/${full}/pulls/${issue.number}` },
        },
      };
    // The front learns a moment later who wrote it: emulate answers after it has told.
    for (let turns = 0; comment && turns < 200; turns++) {
      if (appComments === 0 || state.byApp.has(comment.id)) break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    if (comment && state.byApp.has(comment.id)) {
      const bot = { login: `${slug}[bot]`, type: "Bot" };
      payload = {
        ...payload,
        sender: bot,
        comment: { ...comment, user: bot, performed_via_github_app: { id: appId, slug } },
      };
    }
    const delivery: Delivery = {
      id: nextId++,
      guid: randomUUID(),
      event,
      action: (payload.action as string) ?? null,
      status: 0,
      body: JSON.stringify(payload),
      at: new Date().toISOString(),
    };
    state.deliveries.push(delivery);
    if (state.deliveryFault === "drop") return;
    const times = state.deliveryFault === "double" ? 5 : 1;
    await Promise.all(Array.from({ length: times }, () => deliver(delivery)));
  }

  async function deliver(delivery: Delivery) {
    if (!state.deliverTo) return;
    const signature = createHmac("sha256", webhookSecret).update(delivery.body).digest("hex");
    try {
      const response = await fetchAgain(state.deliverTo, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "user-agent": "GitHub-Hookshot/standin",
          "x-github-delivery": delivery.guid,
          "x-github-event": delivery.event,
          "x-hub-signature-256": `sha256=${signature}`,
        },
        body: delivery.body,
        signal: AbortSignal.timeout(10_000),
      });
      delivery.status = response.status;
    } catch {
      delivery.status = 502;
    }
  }

  async function hookDeliveries(method: string, rest: string): Promise<Answer> {
    if (method === "GET") {
      const rows = [...state.deliveries]
        .reverse()
        .map(({ id, guid, event, action, status, at }) => ({
          id,
          guid,
          event,
          action,
          status_code: status,
          status: status < 300 ? "OK" : "Failed",
          delivered_at: at,
          duration: 0,
          redelivery: false,
          installation_id: installationId,
          repository_id: null,
        }));
      return { status: 200, body: rows.slice(0, 100) };
    }
    const id = Number(/\/(\d+)\/attempts$/.exec(rest)?.[1]);
    const delivery = state.deliveries.find((row) => row.id === id);
    if (!delivery) return notFound;
    const again = { ...delivery, id: nextId++, at: new Date().toISOString() };
    state.deliveries.push(again);
    void deliver(again);
    return { status: 202, body: {} };
  }

  // ── git over HTTP ──
  function serveGit(
    fullName: string,
    path: string,
    request: IncomingMessage,
    response: ServerResponse,
  ) {
    const holder = holderOf(request.headers.authorization ?? "");
    const pushes =
      path === "/git-receive-pack" || request.url?.endsWith("service=git-receive-pack");
    const known = seed.repositories.some((row) => row.fullName === fullName);
    const may =
      holder?.kind === "person" ||
      (holder?.kind === "installation" &&
        (!holder.repositories || holder.repositories.includes(fullName)) &&
        holder.permissions.contents === (pushes ? "write" : holder.permissions.contents));
    if (!holder || !known || !may) {
      response.writeHead(holder ? 403 : 401, { "www-authenticate": 'Basic realm="GitHub"' });
      response.end("access denied\n");
      return;
    }
    setTimeout(
      () => request.destroyed || repositories.serve(fullName, path, request, response),
      state.gitDelayMs,
    );
  }

  function holderOf(header: string): Holder | null {
    const bearer = /^(?:bearer|token) (\S+)$/i.exec(header)?.[1];
    const basic = /^basic (\S+)$/i.exec(header)?.[1];
    const token =
      bearer ??
      Buffer.from(basic ?? "", "base64")
        .toString("utf8")
        .split(":")[1] ??
      "";
    if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return { kind: "app" };
    return tokens.get(token) ?? null;
  }

  async function api(login: string, method: string, path: string, body?: unknown): Promise<Json> {
    const reads = method === "GET" && login === first;
    const response = await fetch(`${url}/api/v3${path}`, {
      method,
      headers: {
        authorization: `Bearer ${reads ? readers[turn++ % readers.length] : tokenOf(login)}`,
        "content-type": "application/json",
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} as ${login}: ${response.status} ${text}`);
    return text ? JSON.parse(text) : {};
  }

  async function pulls(fullName: string, which: "open" | "all" = "all"): Promise<Pull[]> {
    const login = Object.keys(seed.people)[0] ?? "";
    const list = await api(login, "GET", `/repos/${fullName}/pulls?state=${which}&per_page=100`);
    return list as unknown as Pull[];
  }

  const core = {
    url,
    appId,
    installationOf: (owner: string) => installationId + owners.indexOf(owner),
    first,
    newId: () => nextId++,
    capture,
    privateKey,
    webhookSecret,
    repositories,
    state,
    tokenOf,
    /** What the app's environment needs to speak with this GitHub. */
    env: {
      APP_ID: String(appId),
      PRIVATE_KEY: privateKey,
      WEBHOOK_SECRET: webhookSecret,
      GHE_HOST: `127.0.0.1:${port}`,
      GHE_PROTOCOL: "http",
    },
    deliverTo(app: string) {
      state.deliverTo = `${app}/api/github/webhooks`;
    },
    api,
    async openIssue(login: string, fullName: string, title: string, body: string): Promise<number> {
      const issue = await api(login, "POST", `/repos/${fullName}/issues`, { title, body });
      return issue.number as number;
    },
    async label(login: string, fullName: string, issue: number, ...labels: string[]) {
      await api(login, "POST", `/repos/${fullName}/issues/${issue}/labels`, { labels });
    },
    async comment(login: string, fullName: string, issue: number, body: string): Promise<number> {
      return (await api(login, "POST", `/repos/${fullName}/issues/${issue}/comments`, { body }))
        .id as number;
    },
    async comments(fullName: string, issue: number): Promise<Comment[]> {
      const login = Object.keys(seed.people)[0] ?? "";
      const list = (await api(
        login,
        "GET",
        `/repos/${fullName}/issues/${issue}/comments?per_page=100`,
      )) as unknown as Comment[];
      return list.map((row) => ({
        ...row,
        user: state.byApp.has(row.id) ? { login: `${slug}[bot]` } : row.user,
        edits: state.edits.get(row.id) ?? 0,
      }));
    },
    pulls,
    checks: (fullName: string) => state.checks.filter((row) => row.repository === fullName),
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await emulator.close();
      await rm(root, { recursive: true, force: true });
    },
  };
  const standIn = { ...core, people: createPeople(core) };
  for (const { fullName } of seed.repositories)
    for (const [login, permission] of Object.entries(seed.people))
      await fetch(`${emulatorUrl}/repos/${fullName}/collaborators/${login}`, {
        method: "PUT",
        headers: {
          authorization: `Bearer ${tokenOf(Object.keys(seed.people)[0] ?? "")}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({ permission }),
      });
  return standIn;
}

/** Once more where the other side had closed a connection that was kept for it. */
async function fetchAgain(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as { code?: string };
    if (code !== "ECONNRESET" && code !== "UND_ERR_SOCKET") throw error;
    return await fetch(url, init);
  }
}

const notFound = { status: 404, body: { message: "Not Found" } };

function send(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
) {
  response.writeHead(status, { "content-type": "application/json; charset=utf-8", ...headers });
  response.end(body === null ? undefined : JSON.stringify(body));
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString("utf8");
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
