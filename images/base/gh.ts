import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { parseArgs } from "node:util";

// The part of `gh` that an agent in a run needs, in GitHub CLI's own words, over the gateway. No
// token is here; what the gateway refuses is refused with its sentence.

const gateway = { host: "127.0.0.1", port: 3128 };
const listMax = 30;

const usage = `gh, as far as a run has it (Trimo):

  gh issue view NUMBER [--comments]      gh issue list [--state S] [--label L] [--limit N]
  gh pr view [NUMBER] [--comments]       gh pr list [--state S] [--limit N]
  gh pr diff [NUMBER]                    gh pr checks [NUMBER]
  gh pr comment --body TEXT              gh repo view
  gh api PATH                            reading only; {owner} and {repo} are filled in

  --json FIELDS and --jq FILTER work as usual. Commits are pushed by themselves, and the pull request
  is opened, described and readied by Trimo.
`;

type Row = Record<string, unknown>;
type Asked = { status: number; text: string; next: string | null };
class Refused extends Error {}

const options = {
  comments: { type: "boolean", short: "c" },
  state: { type: "string", short: "s" },
  label: { type: "string", short: "l", multiple: true },
  limit: { type: "string", short: "L" },
  json: { type: "string" },
  jq: { type: "string", short: "q" },
  body: { type: "string", short: "b" },
  "body-file": { type: "string", short: "F" },
  method: { type: "string", short: "X" },
  paginate: { type: "boolean" },
  repo: { type: "string", short: "R" },
  header: { type: "string", short: "H", multiple: true },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
} as const;
type Flags = ReturnType<typeof parse>["values"];

function parse(args: string[]) {
  return parseArgs({ args, options, allowPositionals: true });
}

async function main(args: string[]) {
  const { values: flags, positionals } = parsed(args);
  if (flags.version) return print("gh version 2 (Trimo's own, for reading and commenting)");
  const [noun = "help", verb = "", target] = positionals;
  if (flags.help || noun === "help") return print(usage);
  if (noun === "auth") return print("Signed in by Trimo's gateway; there is no token in here.");
  const run = await where();
  if (flags.repo && flags.repo.toLowerCase() !== run.repository.toLowerCase())
    throw new Refused(`Trimo: only ${run.repository} is in reach of this run.`);
  const command = commands[noun === "api" ? "api" : `${noun} ${verb}`];
  if (!command) throw unknown(noun, verb);
  await command(run, flags, noun === "api" ? verb : target);
}

function parsed(args: string[]) {
  try {
    return parse(args);
  } catch (error) {
    const [noun = "", verb = ""] = args.filter((word) => !word.startsWith("-"));
    if (noun !== "api" && !commands[`${noun} ${verb}`]) throw unknown(noun, verb);
    throw new Refused(`Trimo: ${(error as Error).message}\n\n${usage}`);
  }
}

const unknown = (noun: string, verb: string) =>
  new Refused(`Trimo: \`gh ${`${noun} ${verb}`.trim()}\` is not for runs.\n\n${usage}`);

type Where = { repository: string; branch: string; issue: number | null };
type Command = (run: Where, flags: Flags, target: string | undefined) => Promise<void>;

const commands: Record<string, Command> = {
  "issue view": async (run, flags, target) => {
    const number = numberOf(target ?? String(run.issue ?? ""), "gh issue view NUMBER");
    await view(run, flags, number, await one(run, `/issues/${number}`));
  },
  "issue list": async (run, flags) => {
    const labels = flags.label?.length
      ? `&labels=${encodeURIComponent(flags.label.join(","))}`
      : "";
    const rows = await many(run, `/issues?state=${stateOf(flags)}${labels}`, limitOf(flags));
    list(
      flags,
      rows.filter((row) => !row.pull_request),
    );
  },
  "pr view": async (run, flags, target) => {
    const pull = await pullOf(run, target);
    await view(run, flags, Number(pull.number), pull);
  },
  "pr list": async (run, flags) => {
    list(flags, await many(run, `/pulls?state=${stateOf(flags)}`, limitOf(flags)));
  },
  "pr diff": async (run, _flags, target) => {
    const { number } = await pullOf(run, target);
    print(
      (await ask(`/repos/${run.repository}/pulls/${number}`, "application/vnd.github.diff")).text,
    );
  },
  "pr checks": async (run, flags, target) => {
    const { head } = await pullOf(run, target);
    const path = `/commits/${(head as Row).sha}/check-runs?per_page=100`;
    const { check_runs: checks } = (await one(run, path)) as { check_runs: Row[] };
    if (told(flags, checks)) return;
    for (const { name, status, conclusion, output } of checks)
      print(`${name}\t${conclusion ?? status}\t${(output as Row | null)?.title ?? ""}`);
  },
  "pr comment": say,
  "issue comment": say,
  "repo view": async (run, flags) => {
    const repository = await one(run, "");
    if (told(flags, repository)) return;
    print(`name:\t${repository.full_name}`);
    print(`description:\t${repository.description ?? ""}`);
    print(`default branch:\t${repository.default_branch}`);
  },
  api: async (run, flags, target) => {
    if (flags.method && flags.method.toUpperCase() !== "GET")
      throw new Refused("Trimo: nothing on GitHub is changed from here; `gh api` reads.");
    if (!target) throw new Refused(usage);
    const [owner = "", name = ""] = run.repository.split("/");
    const path = `/${target.replace(/^\//, "")}`
      .replaceAll("{owner}", owner)
      .replaceAll("{repo}", name);
    const diff = flags.header?.some((line) => /diff/.test(line));
    const { text } = await ask(path, diff ? "application/vnd.github.diff" : "application/json");
    if (flags.jq) return filter(flags.jq, text);
    print(text);
  },
};

async function say(run: Where, flags: Flags) {
  const file = flags["body-file"];
  const body = flags.body ?? (file ? readFileSync(file === "-" ? 0 : file, "utf8") : "");
  const { status, text } = await send("POST", "/github/comment", "application/json", body);
  if (status !== 202) throw new Refused(messageOf(text, status));
  print(`The comment appears under the pull request of ${run.branch} in a moment.`);
}

/** GitHub CLI's names for what the REST API calls otherwise. */
const fields: Record<string, (row: Row) => unknown> = {
  author: (row) => ({ login: (row.user as Row | null)?.login ?? "" }),
  createdAt: (row) => row.created_at,
  updatedAt: (row) => row.updated_at,
  closedAt: (row) => row.closed_at,
  mergedAt: (row) => row.merged_at,
  url: (row) => row.html_url,
  state: (row) => String(row.merged_at ? "MERGED" : row.state).toUpperCase(),
  isDraft: (row) => row.draft ?? false,
  headRefName: (row) => (row.head as Row | undefined)?.ref,
  headRefOid: (row) => (row.head as Row | undefined)?.sha,
  baseRefName: (row) => (row.base as Row | undefined)?.ref,
  labels: (row) => ((row.labels as Row[] | undefined) ?? []).map(({ name }) => ({ name })),
  comments: (row) => row.all_comments ?? [],
  nameWithOwner: (row) => row.full_name,
  defaultBranchRef: (row) => ({ name: row.default_branch }),
};

/** With --json: prints that, and is true. */
function told(flags: Flags, value: Row | Row[]): boolean {
  if (flags.json === undefined) return false;
  const names = flags.json.split(",").filter(Boolean);
  const picked = (row: Row) =>
    Object.fromEntries(
      names.map((name) => [name, (fields[name] ?? ((r) => r[name]))(row) ?? null]),
    );
  const text = JSON.stringify(Array.isArray(value) ? value.map(picked) : picked(value));
  if (flags.jq) filter(flags.jq, text);
  else print(text);
  return true;
}

function filter(expression: string, text: string) {
  const { status } = spawnSync("jq", ["-r", expression], {
    input: text,
    stdio: ["pipe", "inherit", "inherit"],
  });
  if (status !== 0) process.exitCode = status ?? 1;
}

async function view(run: Where, flags: Flags, number: number, row: Row) {
  const wanted = flags.comments || /\bcomments\b/.test(flags.json ?? "");
  const comments = wanted ? await many(run, `/issues/${number}/comments?per_page=100`, 200) : [];
  if (told(flags, { ...row, all_comments: comments.map(commentOf) })) return;
  print(`title:\t${row.title}`);
  print(`state:\t${fields.state?.(row)}`);
  print(`author:\t${loginOf(row)}`);
  print(`labels:\t${((row.labels as Row[]) ?? []).map(({ name }) => name).join(", ")}`);
  print(`number:\t${row.number}`);
  print(`--\n${row.body ?? ""}`);
  for (const one of comments)
    print(
      `\n${loginOf(one)} (${String(one.author_association).toLowerCase()}) ${one.created_at}:\n${one.body}`,
    );
}

const commentOf = (row: Row): Row => ({
  author: { login: loginOf(row) },
  authorAssociation: row.author_association,
  body: row.body,
  createdAt: row.created_at,
  url: row.html_url,
});
const loginOf = (row: Row): string => String((row.user as Row | null)?.login ?? "");

function list(flags: Flags, rows: Row[]) {
  if (told(flags, rows)) return;
  for (const row of rows)
    print(`${row.number}\t${row.title}\t${fields.state?.(row)}\t${row.updated_at}`);
}

/** The one named, or that of the run's own branch. */
async function pullOf(run: Where, target: string | undefined): Promise<Row> {
  if (target) return await one(run, `/pulls/${numberOf(target, "gh pr view NUMBER")}`);
  const [owner = ""] = run.repository.split("/");
  const head = encodeURIComponent(`${owner}:${run.branch}`);
  const [pull] = await many(run, `/pulls?state=all&head=${head}`, 1);
  if (!pull) throw new Refused(`Trimo: ${run.branch} has no pull request yet.`);
  return pull;
}

function numberOf(text: string, use: string): number {
  const number = Number(/(\d+)\/?$/.exec(text.replace(/^#/, ""))?.[1] ?? 0);
  if (!number) throw new Refused(`Trimo: which one? ${use}`);
  return number;
}

const limitOf = (flags: Flags): number => Math.min(200, Number(flags.limit ?? listMax) || listMax);
const stateOf = (flags: Flags): string =>
  ["open", "closed", "all"].includes(flags.state ?? "")
    ? (flags.state ?? "open")
    : flags.state === "merged"
      ? "closed"
      : "open";

async function where(): Promise<Where> {
  return JSON.parse((await asked("/github", "application/json")).text);
}

async function one(run: Where, path: string): Promise<Row> {
  return JSON.parse((await ask(`/repos/${run.repository}${path}`, "application/json")).text);
}

async function many(run: Where, path: string, most: number): Promise<Row[]> {
  const rows: Row[] = [];
  const perPage = /per_page=/.test(path)
    ? ""
    : `${path.includes("?") ? "&" : "?"}per_page=${Math.min(100, most)}`;
  let next: string | null = `/repos/${run.repository}${path}${perPage}`;
  while (next && rows.length < most) {
    const answer: Asked = await ask(next, "application/json");
    rows.push(...(JSON.parse(answer.text) as Row[]));
    next = answer.next;
  }
  return rows.slice(0, most);
}

async function ask(path: string, accept: string): Promise<Asked> {
  return await asked(`/github${path}`, accept);
}

async function asked(path: string, accept: string): Promise<Asked> {
  const answer = await send("GET", path, accept, "");
  if (answer.status >= 300) throw new Refused(messageOf(answer.text, answer.status));
  return answer;
}

function messageOf(text: string, status: number): string {
  try {
    return `${JSON.parse(text).message} (HTTP ${status})`;
  } catch {
    return `HTTP ${status}`;
  }
}

function send(method: string, path: string, accept: string, body: string): Promise<Asked> {
  return new Promise((resolve, reject) => {
    const headers = { accept, "content-length": Buffer.byteLength(body) };
    const sent = request({ ...gateway, method, path, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on("data", (chunk: Buffer) => chunks.push(chunk));
      response.on("end", () => {
        const link = /<http:\/\/[^/]+\/github([^>]+)>; rel="next"/.exec(
          String(response.headers.link),
        );
        const text = Buffer.concat(chunks).toString("utf8");
        resolve({ status: response.statusCode ?? 0, text, next: link?.[1] ?? null });
      });
      response.on("error", reject);
    });
    sent.on("error", () =>
      reject(new Refused("Trimo: the gateway does not answer; try again in a moment.")),
    );
    sent.end(body);
  });
}

function print(text: string) {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
}

// Last: what it uses is there by then.
try {
  await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
