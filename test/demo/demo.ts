import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { createParser } from "eventsource-parser";
import { leftovers, type Rig, startRig, until } from "../support/rig.ts";
import { agentCast, type Cast, type RealAgent, realAgents, scriptCast } from "./cast.ts";
import { openScreen, type Screen } from "./screen.ts";

// `npm run demo`: the whole way on a real repository, everything real but GitHub, which runs in this
// process. Shows two runs of one pipeline as they happen, and leaves nothing behind.

const here = fileURLToPath(new URL(".", import.meta.url));
const root = join(here, "../..");
const startedAt = Number(process.env.TRIMO_READY_SINCE ?? Date.now());

await main();

async function main() {
  const options = readOptions();
  const screen = openScreen();
  const name = basename(options.repo).replace(/[^A-Za-z0-9._-]/g, "-");
  const fullName = `demo/${name}`;
  screen.title("Trimo demo", "everything real except GitHub, which runs inside this process");
  const version = execFileSync("docker", ["version", "--format", "{{.Server.Version}}"]).toString();
  screen.ready("Docker Engine", `found ${version.trim()}`);
  const cast = options.agent
    ? await agentCast(options.agent, (line) => screen.line(`· ${line}`))
    : scriptCast();
  const rig = await startRig({
    atGithubsPace: true,
    repositories: [{ fullName, source: options.repo }],
    people: { ana: "admin" },
  });
  const stop = once(async () => {
    await rig.stop();
    await cast.stop();
  });
  let stopping = false;
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.on(signal, () => {
      stopping = true;
      screen.line("");
      void stop().then(() => {
        screen.line("Removed everything.");
        process.exit(130);
      });
    });
  try {
    await play(rig, screen, fullName, cast);
    if (options.keep) {
      screen.line(`The dashboard stays at ${rig.appUrl} until Ctrl-C.`);
      await new Promise(() => {});
    }
  } catch (error) {
    // What breaks because everything is being removed is no problem.
    if (stopping) return;
    screen.problem(error instanceof Error ? error.message : String(error));
    process.exitCode = 1;
  } finally {
    await stop();
  }
}

async function play(rig: Rig, screen: Screen, fullName: string, cast: Cast) {
  const { github } = rig;
  const count = await github.repositories.git(fullName, ["rev-list", "--count", "main"]);
  screen.ready(
    "GitHub stand-in",
    `${github.url}   (your repository: ${fullName}, ${count} commits)`,
  );
  const yml = `agent: ${cast.agent}\nverify:\n  - ${JSON.stringify(cast.verify)}\n`;
  await github.repositories.commitFile(
    fullName,
    "main",
    ".github/trimo.yml",
    yml,
    "Configure Trimo",
  );
  await rig.startApp();
  screen.ready("Trimo app", `${rig.appUrl}   ← open me`);
  const daemon = rig.startDaemon(
    "laptop",
    rig.enroll("laptop"),
    {
      slots: 2,
      limits: { memory: "1536m", minutes: 10 },
      agents: { [cast.agent]: cast.settings },
    },
    cast.env,
  );
  await until("the daemon to connect", () => daemon.output().includes('"connected"'));
  screen.ready('daemon "laptop"', "2 slots");

  const { title, body, correction } = cast;
  screen.chapter(`ana opens issue #1 "${title}" and labels it trimo`);
  const issue = await github.openIssue("ana", fullName, title, body);
  let at = Date.now();
  await github.label("ana", fullName, issue, "trimo");
  const story = { rig, screen, fullName, issue, commits: count, cast };
  await watchRun(story, 1, at);
  const green = (Date.now() - startedAt) / 1000;

  screen.chapter(`ana comments  /trimo fix ${correction}`);
  at = Date.now();
  await github.comment("ana", fullName, issue, `/trimo fix ${correction}`);
  await watchRun(story, 2, at);
  await close(rig, screen, fullName, issue, green);
}

type Story = {
  rig: Rig;
  screen: Screen;
  fullName: string;
  issue: number;
  commits: string;
  cast: Cast;
};

/** Shows one run as its events come, until its comment is final. */
async function watchRun(story: Story, number: number, since: number) {
  const { rig, screen, fullName, issue } = story;
  const { github } = rig;
  const running = await until(`run ${number}'s comment`, async () =>
    (await github.comments(fullName, issue)).find((one) => one.body.includes(`**Run ${number}**`)),
  );
  const id = /trimo:run=(\w+)/.exec(running.body)?.[1] ?? "";
  await events(`${rig.appUrl}/runs/${id}/events`, (at, text) => {
    const shown = retell(text, story);
    if (shown) screen.event((at - since) / 1000, shown);
  });
  const done = await until(`run ${number}'s end on GitHub`, async () => {
    const comments = await github.comments(fullName, issue);
    return comments.find(
      (one) =>
        /^(✅|❌|⚪|💔|⌛|⏹️) \*\*Run/m.test(one.body) && one.body.includes(`**Run ${number}**`),
    );
  });
  const pull = await until("the pull request", async () => {
    const [found] = await github.pulls(fullName);
    return found && (!found.draft || !done.body.includes("✅ **Run")) ? found : null;
  });
  const check = github
    .checks(fullName)
    .find((row) => row.head_sha === pull.head.sha && row.external_id === id);
  if (check?.conclusion !== "success") throw new Error(`run ${number} is not green:\n${done.body}`);
  screen.event(
    (Date.now() - since) / 1000,
    `pull request #${pull.number} ready, check ✔, comment ✔`,
  );
}

/** The app's live events: `at` in milliseconds, the text as its run's page shows it. */
async function events(url: string, tell: (at: number, text: string) => void) {
  const response = await fetch(url);
  const parser = createParser({
    onEvent: ({ event, data }) => {
      if (event === "fact") tell(JSON.parse(data).at, JSON.parse(data).text);
    },
  });
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? [])
    parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }));
}

function retell(text: string, { commits, cast }: Story): string | null {
  if (text.startsWith("queued")) return "queued, first in line";
  if (text.startsWith("claimed")) return text.replace(/,.*/, "");
  if (text.startsWith("container of"))
    return text
      .replace(/^container of \S+ for \S+: /, "container up: ")
      .replace(/, [0-9.]+ min.*/, ", 0 capabilities for the agent");
  if (text === "stage preboot") return `cloned ${commits} commits and the pipeline's`;
  if (text === "stage agent") return `${cast.who} starts`;
  if (text.startsWith("The agent ")) return text;
  if (/^(Bash|shell|bash|edit) /.test(text)) return text;
  if (text.startsWith("agent: ")) return `“${text.slice(7)}”`;
  if (text.startsWith("commit ") || text.startsWith("pushed ")) return text;
  if (text.startsWith("verify "))
    return `verify  ${cast.verified} ${text.includes(": passed") ? "✔" : "✖"}`;
  return null;
}

async function close(rig: Rig, screen: Screen, fullName: string, issue: number, green: number) {
  const { github } = rig;
  const [pull] = await github.pulls(fullName);
  const log = await github.repositories.git(fullName, [
    "log",
    "--reverse",
    "--format=%h %s",
    `main..${pull?.head.sha}`,
  ]);
  screen.line("");
  screen.line(
    `main ─ ${log
      .split("\n")
      .map((row) => row.slice(0, row.indexOf(" ")))
      .join(" ─ ")}   ${pull?.head.ref}   linear`,
  );
  for (const row of log.split("\n")) screen.line(`         ${row}`);
  screen.line("");
  for (const [what, url] of [
    ["issue", `${github.url}/${fullName}/issues/${issue}`],
    ["pull request", `${github.url}/${fullName}/pull/${pull?.number}`],
    ["dashboard", rig.appUrl],
  ])
    screen.line(`  ${what?.padEnd(14)}${url}`);
  const receipts = github.checks(fullName).filter((row) => row.conclusion === "success").length;
  await until("the containers' end", () => leftovers(rig).length === 0);
  screen.line("");
  screen.line(`2 runs, ${receipts} receipts green. Nothing left behind: 0 containers, 0 volumes.`);
  const before = rememberFirst(green);
  screen.line(
    `First green check after ${green.toFixed(1)} s${before ? `; on this machine's first start it came after ${before.toFixed(1)} s` : ", set-up included"}.`,
  );
}

/** The time of the first start, kept beside the dependencies; null when this is it. */
function rememberFirst(seconds: number): number | null {
  const folder = join(root, "node_modules/.cache");
  const path = join(folder, "trimo-demo.json");
  if (existsSync(path)) return JSON.parse(readFileSync(path, "utf8")).firstSeconds;
  mkdirSync(folder, { recursive: true });
  writeFileSync(path, JSON.stringify({ firstSeconds: seconds }));
  return null;
}

function parse() {
  try {
    return parseArgs({
      options: {
        repo: { type: "string" },
        keep: { type: "boolean", default: false },
        agent: { type: "string" },
      },
    }).values;
  } catch (error) {
    process.stderr.write(
      `✖ ${(error as Error).message}\n  The demo takes --repo PATH, --keep and --agent NAME, after  npm run demo --\n`,
    );
    process.exit(2);
  }
}

function readOptions(): { repo: string; keep: boolean; agent: RealAgent | null } {
  const values = parse();
  const agent = realAgents.find((name) => name === values.agent) ?? null;
  if (values.agent !== undefined && agent === null) {
    process.stderr.write(
      `✖ the demo has no agent "${values.agent}"\n  It has ${realAgents.join(", ")}, or none: a script\n`,
    );
    process.exit(2);
  }
  const repo = resolve(values.repo ?? root);
  try {
    execFileSync("git", ["-C", repo, "rev-parse", "--verify", "HEAD^{commit}"], {
      stdio: "ignore",
    });
  } catch {
    process.stderr.write(
      `✖ ${repo} is no git repository with a commit\n  Name one with  npm run demo -- --repo PATH\n`,
    );
    process.exit(2);
  }
  return { repo, keep: values.keep, agent };
}

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | null = null;
  return () => {
    done ??= work();
    return done;
  };
}
