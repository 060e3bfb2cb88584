import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { and, eq } from "drizzle-orm";
import type { Database } from "../../app/state/database.ts";
import { events, runs } from "../../app/state/schema.ts";
import { startModel } from "../support/model/server.ts";
import { type DaemonYml, docker, type Program, type Rig, startRig, until } from "../support/rig.ts";
import { openStore } from "../support/store.ts";

// A rig with real agents in an image, before the scripted model.

export const image = "trimo/test-agents:1";

/** Every agent of the image, and one more of each for every fault that its key names. */
const faults = ["401", "429", "500", "cut", "hang"] as const;

/** Built once; Docker's own cache knows when the base has changed. */
export function buildImage(agents: string[]) {
  const folder = mkdtempSync(join(tmpdir(), "trimo-agents-"));
  try {
    const lines = agents.map((agent) => `RUN /opt/trimo/sbin/install-agent ${agent}`);
    writeFileSync(join(folder, "Dockerfile"), ["FROM trimo/base:bookworm", ...lines].join("\n"));
    docker("build", "-q", "-t", image, folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

export type Field = Awaited<ReturnType<typeof startField>>;

const kinds: Record<string, DaemonYml> = {
  claude: { adapter: "claude", env: { CLAUDE_CODE_MAX_RETRIES: "3" } },
  codex: { adapter: "codex", model: "gpt-5.2-codex" },
  opencode: { adapter: "opencode", model: "scripted" },
  gemini: { adapter: "acp", command: ["gemini", "--acp"], api: "gemini", model: "gemini-2.5-pro" },
  qwen: {
    adapter: "acp",
    command: ["qwen", "--acp", "--auth-type", "openai"],
    api: "openai",
    model: "scripted",
  },
  acp: { adapter: "acp", command: ["opencode", "acp"], api: "openai", model: "scripted" },
};

/** A key that is looked for where it must not be. */
export const keyOf = (agent: string): string =>
  agent === "claude"
    ? "sk-ant-oat01-canary-of-claude-0123456789"
    : `canary-of-${agent}-0123456789abcdef`;

export async function startField(names: string[], more: DaemonYml = {}) {
  const model = await startModel();
  const repositories = names.map((name) => ({ fullName: `acme/${name}`, source: null }));
  const rig = await startRig({ repositories });
  const env: Record<string, string> = {};
  const agents: Record<string, DaemonYml> = {};
  for (const [kind, settings] of Object.entries(kinds))
    for (const fault of ["", ...faults]) {
      const name = fault ? `${kind}-${fault}` : kind;
      const variable = `KEY_OF_${name.toUpperCase().replaceAll("-", "_")}`;
      env[variable] = fault ? `canary_fault-${fault}_of_${kind}_0123456789` : keyOf(name);
      const url =
        settings.api === "openai" || ["codex", "opencode"].includes(String(settings.adapter));
      agents[name] = {
        ...settings,
        credential: `env:${variable}`,
        base_url: url ? `${model.url}/v1` : model.url,
        image,
        patience_seconds: 15,
        timeout_seconds: fault === "hang" ? 2 : 60,
      };
    }
  // Codex' own login, with a key of OpenAI's that nobody has.
  const login = join(rig.folder, "auth.json");
  writeFileSync(login, JSON.stringify({ OPENAI_API_KEY: "exposed-login-0123456789abcdef" }));
  agents.exposed = { adapter: "codex", expose: true, login, image };
  const yml = {
    slots: 3,
    // Qwen 0.24 takes 2.1 GB for a moment while it starts.
    limits: { memory: "4g", cpus: 2, pids: 600, minutes: 6 },
    agents,
    ...more,
  };
  for (const name of names) {
    await rig.github.repositories.commitFile(
      `acme/${name}`,
      "main",
      "README.md",
      "# App\n",
      "Begin",
    );
    await rig.github.repositories.commitFile(
      `acme/${name}`,
      "main",
      ".github/trimo.yml",
      `verify: ['git log --oneline | head -3']\n${name === "greedy" ? "limits: { memory: 1536m }\n" : ""}`,
      "Configure Trimo",
    );
  }
  await rig.startApp();
  const token = rig.enroll("studio");
  const start = (): Program => rig.startDaemon("studio", token, yml, env);
  const daemon = start();
  await until("the daemon", () => daemon.output().includes('"connected"'));
  const db = await openStore(join(rig.folder, "app", "app.db"));
  return {
    model,
    rig,
    db,
    env,
    daemon,
    start,
    async stop() {
      db.close();
      await rig.stop();
      await model.close();
    },
  };
}

/** An issue whose body names a script, and the label of an agent. */
export async function ask({ rig }: Field, repository: string, agent: string, script: string) {
  const { github } = rig;
  const body = `[[${script}]] Do as the script says.`;
  const issue = await github.openIssue("ana", `acme/${repository}`, `${agent} ${script}`, body);
  await github.label("ana", `acme/${repository}`, issue, `trimo:${agent}`);
  return { repository: `acme/${repository}`, issue };
}

/** A comment with these words; else all that there were. */
export async function said(rig: Rig, repository: string, issue: number, ...words: string[]) {
  let there: string[] = [];
  const look = async () => {
    there = (await rig.github.comments(repository, issue)).map((one) => one.body);
    return there.find((body) => words.every((word) => body.includes(word)));
  };
  return await until(`a comment with ${words.join(", ")}`, look, 75_000).catch((error) => {
    throw new Error(
      `${error.message} on ${repository}#${issue}; there were:\n${there.join("\n────\n")}`,
    );
  });
}

/** The runs that an issue's pipeline had so far, with their facts. */
export async function story({ db }: { db: Database }, repository: string, issue: number) {
  const all = await db.read
    .select()
    .from(runs)
    .where(and(eq(runs.repository, repository), eq(runs.thread, issue)));
  return await Promise.all(
    all
      .sort((a, b) => a.number - b.number)
      .map(async (run) => ({
        run,
        facts: (await db.read.select().from(events).where(eq(events.runId, run.id))).sort(
          (a, b) => a.id - b.id,
        ),
      })),
  );
}

export const factsOf = (
  { facts }: Awaited<ReturnType<typeof story>>[number],
  type: string,
): Record<string, unknown>[] => facts.filter((fact) => fact.type === type).map((fact) => fact.data);
