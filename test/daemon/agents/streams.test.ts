import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Event, type Fact } from "../../../app/protocol/event.ts";
import type { FailureCode } from "../../../app/protocol/failure.ts";
import { type Agent, AgentSettings } from "../../../daemon/agent-settings.ts";
import { adapterOf } from "../../../daemon/agents/adapters.ts";

// What real agents printed, replayed through their adapters; and then the same lines cut, merged,
// shuffled and corrupted, a hundred thousand times.

const folder = new URL("./streams/", import.meta.url).pathname;
const settings = (value: object): Agent => AgentSettings.parse({ credential: "env:KEY", ...value });
const script = (lines: object[]): Agent =>
  settings({ adapter: "script", command: ["x"], credential: undefined, lines });

/** Programs that no adapter is for: rules in daemon.yml are enough. */
const gemini = script([
  { when: { type: "message", role: "assistant" }, say: "content" },
  { when: { type: "tool_use" }, tool: "tool_name", command: "parameters.command" },
  {
    when: { type: "result", status: "success" },
    end: true,
    input: "stats.input",
    cached: "stats.cached",
    output: "stats.output_tokens",
  },
  { when: { type: "result", status: "error" }, error: "error.message" },
]);
const qwen = script([
  { when: { type: "assistant" }, say: "message.content.*.text" },
  { when: { type: "result", is_error: false }, end: true },
  { when: { type: "result", is_error: true }, error: "error.message" },
]);
const pi = script([
  { when: { type: "message_end", "message.role": "assistant" }, say: "message.content.*.text" },
  { when: { type: "turn_end", "message.stopReason": "stop" }, end: true },
  { when: { type: "turn_end", "message.stopReason": "error" }, error: "message.errorMessage" },
]);
const cline = script([
  { when: { type: "run_result", finishReason: "completed" }, say: "text", end: true },
]);
const copilot = script([
  { when: { type: "assistant.message" }, say: "data.content" },
  {
    when: { type: "tool.execution_start" },
    tool: "data.toolName",
    command: "data.arguments.command",
  },
  { when: { type: "result", exitCode: 0 }, end: true },
]);
const claude = settings({ adapter: "claude" });
const codex = settings({ adapter: "codex" });
const opencode = settings({ adapter: "opencode", model: "m" });
const acp = settings({ adapter: "acp", command: ["x"], credential: undefined });

type Golden = [
  file: string,
  agent: Agent,
  exit: number | null,
  code: FailureCode | null,
  told: RegExp[],
];
const goldens: Golden[] = [
  [
    "claude-ok",
    claude,
    0,
    null,
    [/^say I will create/, /^tool Bash printf …$/, /^say Done/, /^usage 2060\+1000 84 10120$/],
  ],
  ["claude-partial", claude, 0, null, [/^say Done/]],
  ["claude-auth-error", claude, 1, "credential_refused", [/^say Invalid API key/]],
  ["claude-500-retries", claude, 1, "model_overloaded", []],
  ["claude-sigterm", claude, 143, "agent_crashed", [/^tool Bash /]],
  ["claude-resume", claude, 0, null, [/^say Continuing/]],
  [
    "claude-stdin-two-messages",
    claude,
    0,
    null,
    [/^say Step one/, /^tool Bash echo one$/, /^tool Bash echo …$/, /^say Finished/],
  ],
  [
    "codex-ok",
    codex,
    0,
    null,
    [/^say I will create/, /^tool shell printf …$/, /^say Done/, /^usage 1110\+1000 84 0$/],
  ],
  ["codex-ok-code-mode", codex, 0, null, [/^tool shell printf …$/]],
  ["codex-auth-error", codex, 1, "credential_refused", []],
  ["codex-500-retries", codex, 1, "model_overloaded", []],
  ["codex-resume", codex, 0, null, [/^say Continuing/]],
  ["codex-sigkill", codex, null, "agent_crashed", [/^say Sleeping/]],
  [
    "opencode-ok",
    opencode,
    0,
    null,
    [/^tool bash printf …$/, /^say Done/, /^usage 1060\+1000 84 1328$/],
  ],
  ["opencode-auth-error", opencode, 1, "credential_refused", []],
  ["opencode-429", opencode, 1, "quota_reached", []],
  ["opencode-permission-rejected", opencode, 0, "agent_crashed", []],
  ["opencode-resume", opencode, 0, null, [/^say Continuing/]],
  [
    "acp-opencode",
    acp,
    0,
    null,
    [
      /^say First a plan/,
      /^plan .x.reproduce/,
      /^edit PLAN.md \+3/,
      /^tool shell git add -A …$/,
      /^say Done/,
    ],
  ],
  ["acp-gemini", acp, 0, null, [/^edit PLAN.md/, /^tool shell git add -A …$/, /^say Done/]],
  ["acp-qwen", acp, 0, null, [/^edit PLAN.md \+3 -0$/, /^say Done/, /^usage /]],
  ["gemini-ok", gemini, 0, null, [/^tool run_shell_command printf …$/, /^usage 1560\+1500 126 0$/]],
  ["gemini-auth-error", gemini, 145, "credential_refused", []],
  ["gemini-stream-cut", gemini, 1, "model_overloaded", []],
  ["gemini-sigterm-exit0", gemini, 0, "agent_crashed", []],
  ["qwen-ok", qwen, 0, null, [/^say Done/]],
  ["qwen-auth-error", qwen, 1, "credential_refused", []],
  ["pi-ok", pi, 0, null, [/^say Done/]],
  ["pi-auth-error-exit0", pi, 0, "credential_refused", []],
  ["cline-ok", cline, 0, null, [/^say Done/]],
  ["copilot-ok", copilot, 0, null, [/^say Done/]],
  ["copilot-auth-error", copilot, 1, "agent_failed", []],
];

const linesOf = (file: string): string[] =>
  readFileSync(join(folder, `${file}.jsonl`), "utf8")
    .split("\n")
    .filter(Boolean);

function words(fact: Fact): string {
  switch (fact.type) {
    case "say":
    case "ask":
      return `${fact.type} ${fact.text}`;
    case "tool":
      return `tool ${fact.name} ${fact.target}`;
    case "edit":
      return `edit ${fact.path} +${fact.added} -${fact.removed}`;
    case "plan":
      return `plan ${fact.items.map(({ text, done }) => `[${done ? "x" : " "}]${text}`).join(" ")}`;
    case "usage":
      return `usage ${fact.inputTokens}+${fact.cachedTokens} ${fact.outputTokens} ${fact.costMicroUsd}`;
    default:
      return fact.type;
  }
}

const ended = (exit: number | null) => ({ exit, signal: exit === null ? "SIGKILL" : null });

describe("what an agent printed", () => {
  test.each(goldens)("in %s is told and judged", (file, agent, exit, code, told) => {
    const reader = adapterOf(agent).reader(null);
    const facts = linesOf(file).flatMap((line) => reader.read(line));
    const all = facts.map(words);
    for (const pattern of told)
      expect(
        all.filter((one) => pattern.test(one)),
        String(pattern),
      ).not.toEqual([]);
    expect(reader.end(ended(exit))?.code ?? null).toBe(code);
    // Nothing of what a file or a tool's output held.
    expect(all.join("\n")).not.toContain("Hello from the scripted model");
    for (const fact of facts) Event.parse({ ...fact, seq: 1, at: 1 });
  });

  test("is all here", () => {
    const files = readdirSync(folder).map((name) => name.replace(".jsonl", ""));
    expect(files.sort()).toEqual(goldens.map(([file]) => file).sort());
  });
});

/** Mulberry32: a seed gives the same numbers on every machine. */
function randomFrom(seed: number) {
  let state = seed;
  const next = () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return { next, below: (n: number) => Math.floor(next() * n) };
}

type Random = ReturnType<typeof randomFrom>;
const junk = [
  "",
  "{",
  "null",
  "[]",
  '{"type":"result"}',
  "\u001b[31mred\u001b[0m",
  "\ufffd\u0000",
  '"x',
  "{}".repeat(50),
];

/** One harm at a time, to one line or all of them. */
function harmed(lines: string[], random: Random): string[] {
  const at = random.below(lines.length);
  const line = lines[at] ?? "";
  const without = [...lines.slice(0, at), ...lines.slice(at + 1)];
  switch (random.below(7)) {
    case 0:
      return lines.with(at, line.slice(0, random.below(line.length + 1)));
    case 1:
      return lines.slice(0, at + 1).with(at, line.slice(0, random.below(line.length + 1)));
    case 2:
      return [...lines.slice(0, at), line + (lines[at + 1] ?? ""), ...lines.slice(at + 2)];
    case 3:
      return [...without.slice(0, random.below(without.length + 1)), line, ...without];
    case 4: {
      const where = random.below(line.length + 1);
      const sign = String.fromCharCode(random.below(0x3000));
      return lines.with(at, line.slice(0, where) + sign + line.slice(where + 1));
    }
    case 5:
      return [...lines.slice(0, at), junk[random.below(junk.length)] ?? "", ...lines.slice(at)];
    default:
      return without;
  }
}

test.each([
  ["\\n", 2_000_000],
  ["\\r", 2_000_000],
  ["\\u2028", 1_000_000],
  [" ", 4_000_000],
  ["\\t\\n", 1_000_000],
  ["::ask ", 600_000],
  ["::ask ::", 600_000],
  ["a:", 2_000_000],
])("megabytes of %j in an agent's words are read in one go", (piece, times) => {
  // A reader that goes back and forth would take hours.
  const words = piece.repeat(times);
  const lines = [
    `{"type":"assistant","message":{"content":[{"type":"text","text":"${words}"}]}}`,
    `{"type":"item.completed","item":{"type":"agent_message","text":"${words}"}}`,
    `{"type":"text","part":{"text":"${words}"}}`,
    `{"type":"message","role":"assistant","content":"${words}"}`,
    words,
  ];
  for (const agent of [claude, codex, opencode, acp, gemini, qwen, pi, cline, copilot]) {
    const reader = adapterOf(agent).reader(null);
    for (const line of lines)
      for (const fact of reader.read(line))
        expect(Event.safeParse({ ...fact, seq: 1, at: 1 }).success).toBe(true);
  }
});

test("a hundred thousand harmed streams make no adapter throw, and no failure a success", () => {
  const streams = goldens.map(([file, agent, exit, code]) => {
    const { size } = new Blob([readFileSync(join(folder, `${file}.jsonl`))]);
    return { file, adapter: adapterOf(agent), exit, code, size, lines: linesOf(file) };
  });
  const cases = 100_000;
  // Short ones more often: what can go wrong does not depend on the length.
  const small = streams.filter(({ size }) => size < 9_000);
  for (let seed = 1; seed <= cases; seed++) {
    const random = randomFrom(seed);
    const from = random.below(50) === 0 ? streams : small;
    const stream = from[random.below(from.length)];
    if (!stream) throw new Error("no stream");
    const { file, adapter, code, exit } = stream;
    let lines = stream.lines;
    for (let harms = 1 + random.below(3); harms > 0 && lines.length > 0; harms--)
      lines = harmed(lines, random);
    const reader = adapter.reader(null);
    for (const line of lines) reader.read(line);
    reader.session();
    // Also with the exit of a success: what was said decides as well.
    const problem = reader.end(ended(random.below(2) === 0 ? 0 : exit));
    if (code !== null && problem === null)
      throw new Error(`${file}, seed ${seed}: a failure passed`);
  }
}, 120_000);
