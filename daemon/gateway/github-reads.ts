import type { IncomingMessage, ServerResponse } from "node:http";
import type { Clock } from "../../app/protocol/clock.ts";
import { commentMax } from "../../app/protocol/event.ts";
import type { Job } from "../../app/protocol/job.ts";

// What `gh` inside a container may ask of GitHub: to read what is said about its one repository, with
// a token that can do no more and stays here; and to comment on its own pull request, which the app
// writes at GitHub's pace. Open pull requests can be read with their diffs; all other contents come by
// git only, where the gate decides.

/** Requests that reach GitHub for one run, and the comments an agent may make in it. */
const requestsMax = 300;
const commentsMax = 10;
/** How long an answer is given again without asking. */
const freshMs = 20_000;
const answerBytesMax = 5 * 2 ** 20;
const cachedBytesMax = 16 * 2 ** 20;
/** Asked at once; what comes on top waits for its turn. */
const atOnceMax = 3;
/** What a query may say; anything else would only make the same answer anew. */
const queryNames = [
  "page",
  "per_page",
  "state",
  "labels",
  "head",
  "base",
  "sort",
  "direction",
  "since",
  "filter",
];
const requestMsMax = 20_000;

/** What may be read below /repos/OWNER/NAME. */
const readable = [
  /^$/,
  /^\/issues(\/\d+(\/(comments|events|timeline|labels))?)?$/,
  /^\/issues\/comments(\/\d+)?$/,
  /^\/pulls(\/\d+(\/(files|commits|comments|reviews(\/\d+(\/comments)?)?|requested_reviewers))?)?$/,
  /^\/commits\/[0-9a-f]{7,40}(\/(check-runs|check-suites))$/,
  /^\/commits\/[\w.-]+(\/[\w.-]+)*\/(check-runs)$/,
  /^\/check-runs\/\d+(\/annotations)?$/,
  /^\/check-suites\/\d+(\/check-runs)?$/,
  /^\/(labels|milestones)$/,
  /^\/milestones\/\d+$/,
];

type Answer = {
  status: number;
  type: string;
  link: string;
  body: Buffer;
  etag: string;
  at: number;
};

export type GitHubProxy = ReturnType<typeof createGitHubProxy>;

/**
 * What `gh` in a container speaks to: reads of its own repository, and comments on its own threads. Nothing
 * is asked of GitHub yet.
 */
export function createGitHubProxy(
  api: string,
  job: Pick<Job, "repository" | "branch" | "issue">,
  token: (refused?: string | null) => Promise<string>,
  comment: (text: string) => boolean,
  clock: Clock,
) {
  return {
    api,
    repository: job.repository,
    branch: job.branch,
    issue: job.issue,
    token,
    comment,
    clock,
    requests: 0,
    comments: 0,
    known: new Map<string, Answer>(),
    asking: 0,
    waiting: [] as (() => void)[],
  };
}

/** The address of GitHub's REST API: api.github.com, or /api/v3 on a server of one's own. */
export function apiOf(github: string): string {
  return new URL(github).host === "github.com" ? "https://api.github.com" : `${github}/api/v3`;
}

/** Answers a request of the container's `gh`; refuses what is not a read of its own repository. */
export async function serveGitHub(
  github: GitHubProxy,
  request: IncomingMessage,
  response: ServerResponse,
) {
  const { pathname, searchParams } = new URL(request.url ?? "/", "http://gateway");
  const path = pathname.slice("/github".length);
  if (request.method === "GET" && path === "") {
    const { repository, branch, issue } = github;
    return json(response, 200, { repository, branch, issue });
  }
  if (request.method === "POST" && path === "/comment")
    return await takeComment(github, request, response);
  if (request.method !== "GET")
    return refuse(
      response,
      "nothing on GitHub is changed from here. Commits are pushed by themselves; `gh pr comment` says something under the pull request.",
    );
  const below = path.slice(`/repos/${github.repository}`.length);
  const ours = path.toLowerCase().startsWith(`/repos/${github.repository.toLowerCase()}`);
  if (!ours || !readable.some((pattern) => pattern.test(below)))
    return refuse(
      response,
      `only issues, pull requests and checks of ${github.repository} can be read here, not ${path.slice(0, 200)}.`,
    );
  const accept = String(request.headers.accept ?? "").includes("diff")
    ? "application/vnd.github.diff"
    : "application/vnd.github+json";
  for (const name of [...searchParams.keys()])
    if (!queryNames.includes(name)) searchParams.delete(name);
  const query = searchParams.size > 0 ? `?${searchParams}` : "";
  const answer = await ask(github, `/repos/${github.repository}${below}${query}`, accept);
  if (typeof answer === "string") return refuse(response, answer, 429);
  response.writeHead(answer.status, { "content-type": answer.type, link: answer.link });
  response.end(answer.body);
}

/** From memory while it is fresh, else from GitHub, which answers 304 when nothing has changed. */
async function ask(github: GitHubProxy, path: string, accept: string): Promise<Answer | string> {
  const { known, clock } = github;
  const key = `${accept} ${path}`;
  const before = known.get(key);
  if (before && clock.now() - before.at < freshMs) return before;
  if (github.requests >= requestsMax)
    return `this run has asked GitHub ${requestsMax} times, which is all it may.`;
  github.requests += 1;
  const answer = await inTurn(github, () => fetchAnswer(github, path, accept, before));
  if (answer.status < 300) keep(github, key, answer);
  return answer;
}

async function inTurn<T>(github: GitHubProxy, work: () => Promise<T>): Promise<T> {
  if (github.asking >= atOnceMax)
    await new Promise<void>((resolve) => github.waiting.push(resolve));
  github.asking += 1;
  try {
    return await work();
  } finally {
    github.asking -= 1;
    github.waiting.shift()?.();
  }
}

/** The newest answers, as many as there is room for. */
function keep({ known }: GitHubProxy, key: string, answer: Answer) {
  known.delete(key);
  known.set(key, answer);
  let bytes = 0;
  for (const { body } of known.values()) bytes += body.length;
  for (const [oldest, { body }] of known) {
    if (bytes <= cachedBytesMax) return;
    known.delete(oldest);
    bytes -= body.length;
  }
}

async function fetchAnswer(
  github: GitHubProxy,
  path: string,
  accept: string,
  before: Answer | undefined,
): Promise<Answer> {
  const token = await github.token();
  const first = await fetchWith(github, path, accept, before, token);
  // A token that was good may be refused after a transfer or a suspension.
  const response =
    first.status === 401
      ? await fetchWith(github, path, accept, before, await github.token(token))
      : first;
  const at = github.clock.now();
  if (response.status === 304 && before) return { ...before, at };
  const body = await limited(response);
  if (body === null) {
    const message = `Trimo: the answer has more than ${answerBytesMax / 2 ** 20} MB; ask for less, by page.`;
    const text = Buffer.from(JSON.stringify({ message }));
    return { status: 502, type: "application/json", link: "", etag: "", body: text, at };
  }
  return {
    status: response.status,
    type: response.headers.get("content-type") ?? "application/json",
    // Pages further on are asked for through here as well.
    link: (response.headers.get("link") ?? "")
      .replaceAll(github.api, "http://127.0.0.1:3128/github")
      .replace(/\/github\/repositories\/\d+(?=[/?>])/g, `/github/repos/${github.repository}`),
    etag: response.headers.get("etag") ?? "",
    body: withoutTokens(body),
    at,
  };
}

async function fetchWith(
  { api }: GitHubProxy,
  path: string,
  accept: string,
  before: Answer | undefined,
  token: string,
): Promise<Response> {
  return await fetch(`${api}${path}`, {
    headers: {
      accept,
      authorization: `Bearer ${token}`,
      "user-agent": "trimo",
      "x-github-api-version": "2022-11-28",
      ...(before?.etag ? { "if-none-match": before.etag } : {}),
    },
    // Elsewhere the token would go along.
    redirect: "manual",
    signal: AbortSignal.timeout(requestMsMax),
  }).catch((error) => {
    const body = JSON.stringify({ message: `Trimo: GitHub does not answer: ${String(error)}` });
    return new Response(body, { status: 502, headers: { "content-type": "application/json" } });
  });
}

/** A repository's own object can hold a token to clone it with. */
function withoutTokens(body: Buffer): Buffer {
  if (!body.includes("temp_clone_token")) return body;
  const without = (name: string, value: unknown) =>
    name === "temp_clone_token" ? undefined : value;
  try {
    return Buffer.from(JSON.stringify(JSON.parse(body.toString("utf8"), without)));
  } catch {
    // A diff that speaks of it, not an object that has it.
    return body;
  }
}

/** Null when it is too large: half of an answer would be taken for the whole. */
async function limited(response: Response): Promise<Buffer | null> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    bytes += (chunk as Uint8Array).length;
    if (bytes > answerBytesMax) return null;
    chunks.push(chunk as Uint8Array);
  }
  return Buffer.concat(chunks);
}

async function takeComment(
  github: GitHubProxy,
  request: IncomingMessage,
  response: ServerResponse,
) {
  if (github.comments >= commentsMax)
    return refuse(response, `a run may comment ${commentsMax} times, and this one has.`, 429);
  let text = "";
  for await (const chunk of request) {
    text += chunk;
    if (text.length > commentMax) break;
  }
  if (text.trim() === "") return refuse(response, "a comment needs words: --body TEXT.", 422);
  if (text.length > commentMax)
    return refuse(response, `a comment has at most ${commentMax} characters.`, 422);
  // Others may have come to their end while this one was read.
  if (github.comments >= commentsMax || !github.comment(text.trim()))
    return refuse(response, `a run may comment ${commentsMax} times, and this one has.`, 429);
  github.comments += 1;
  json(response, 202, { accepted: true });
}

function refuse(response: ServerResponse, why: string, status = 403) {
  json(response, status, { message: `Trimo: ${why}` });
}

function json(response: ServerResponse, status: number, body: object) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}
