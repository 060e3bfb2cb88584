import { describe, expect, test } from "vitest";
import { AgentSettings } from "../../../daemon/agent-settings.ts";
import { adapterOf } from "../../../daemon/agents/adapters.ts";
import { changedLines, commandHead, said } from "../../../daemon/agents/facts.ts";

describe("a command is told by its head, without what it may hold", () => {
  test.each([
    ["npm test", "npm test"],
    ["npm run test -- --run src/a.ts", "npm run test -- …"],
    ["git commit -m 'the secret is 1234'", "git commit -m …"],
    ["cat > src/a.ts <<'EOF'\nconst key = 1;\nEOF", "cat …"],
    ["/bin/bash -lc \"sed -n 1,20p 'src/a.ts'\"", "sed -n 1,20p …"],
    ["bash -c 'ls -la'", "ls -la"],
    ["KEY=secret deploy --now", "…"],
    ["echo $TOKEN", "echo …"],
    ["", ""],
  ])("%j is %j", (command, head) => expect(commandHead(command)).toBe(head));
});

test.each([
  ["a\nb\nc\n", "a\nx\nc\n", { added: 1, removed: 1 }],
  ["", "a\nb\n", { added: 2, removed: 0 }],
  ["a\nb\n", "", { added: 0, removed: 2 }],
  ["a\n", "a\n", { added: 0, removed: 0 }],
])("lines between %j and %j", (before, after, counted) => {
  expect(changedLines(before, after)).toEqual(counted);
});

test("a question is a line of its own among the words", () => {
  expect(said("I cannot know this.\n\n::ask:: Should it stay?\n")).toEqual([
    { type: "say", text: "I cannot know this." },
    { type: "ask", text: "Should it stay?" },
  ]);
  expect(said("It said ::ask:: in the middle")).toMatchObject([{ type: "say" }]);
});

describe("an agent's command line holds no key and goes where the gateway is", () => {
  const launch = {
    name: "it",
    model: "m",
    gateway: "http://127.0.0.1:3128/model/it",
    subscription: false,
    resume: "11111111-2222-4333-8444-555555555555",
    newSession: "99999999-2222-4333-8444-555555555555",
  };
  test.each([
    ["claude", {}, ["--resume", launch.resume], { ANTHROPIC_API_KEY: "held-by-trimo" }],
    ["codex", {}, ["resume", launch.resume], { TRIMO_MODEL_KEY: "held-by-trimo" }],
    ["opencode", { model: "m" }, ["-s", launch.resume], {}],
    [
      "acp",
      { command: ["x", "--acp"], api: "gemini" },
      ["x", "--acp"],
      { GEMINI_API_KEY: "held-by-trimo" },
    ],
    [
      "script",
      { command: ["x"], api: "openai" },
      ["x"],
      { OPENAI_BASE_URL: `${launch.gateway}/v1` },
    ],
  ])("%s", (adapter, more, words, env) => {
    const settings = AgentSettings.parse({ adapter, credential: "env:KEY", ...more });
    const start = adapterOf(settings).start(launch);
    expect(start.command).toEqual(expect.arrayContaining(words));
    expect(start.env).toMatchObject(env);
    const all = JSON.stringify(start);
    expect(all.includes(launch.gateway) || adapter === "acp" || adapter === "script").toBe(true);
  });

  test("a subscription's token has a placeholder of its own kind", () => {
    const settings = AgentSettings.parse({ adapter: "claude", credential: "env:KEY" });
    const { env } = adapterOf(settings).start({ ...launch, subscription: true, resume: null });
    expect(env).toMatchObject({ CLAUDE_CODE_OAUTH_TOKEN: "held-by-trimo" });
    expect(env).not.toHaveProperty("ANTHROPIC_API_KEY");
  });
});

test.each([
  [{ adapter: "claude" }, "needs `credential:`"],
  [{ adapter: "claude", credential: "sk-ant-api03-plain" }, "env:NAME, file:PATH or command:"],
  [{ adapter: "opencode", credential: "env:K" }, "opencode needs `model:`"],
  [{ adapter: "codex", expose: true }, "needs `login:`"],
  [
    { adapter: "codex", login: "~/.codex/auth.json", credential: "env:K" },
    "say so by `expose: true`",
  ],
  [{ adapter: "acp", command: ["x"], expose: true, login: "x" }, "knows no place for a login"],
  [{ adapter: "cursor", credential: "env:K" }, "Invalid"],
])("%j in daemon.yml is told: %s", (agent, words) => {
  const parsed = AgentSettings.safeParse(agent);
  expect(parsed.success).toBe(false);
  expect(JSON.stringify(parsed.error?.issues)).toContain(words);
});
