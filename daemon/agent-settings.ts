import { z } from "zod";
import { ImageName } from "../app/protocol/names.ts";

// The agents of daemon.yml. A new adapter is a shape and a row here, a file in agents/ with a row in
// agents/adapters.ts, and golden output in test/daemon/agents/streams: CONTRIBUTING.md says how.

const seconds = z.number().int().min(1).max(3_600);
const path = z.string().min(1).max(200);
/** A line's meaning, for programs that print a JSON object a line. */
const RuleShape = z.strictObject({
  when: z.record(path, z.union([z.string(), z.number(), z.boolean(), z.null()])),
  say: path.optional(),
  tool: path.optional(),
  target: path.optional(),
  command: path.optional(),
  edit: path.optional(),
  ask: path.optional(),
  input: path.optional(),
  cached: path.optional(),
  output: path.optional(),
  usd: path.optional(),
  error: path.optional(),
  end: z.boolean().optional(),
});

const below = z
  .string()
  .regex(/^(?!\/)(?!.*(?:^|\/)\.\.(?:\/|$))[\w./@ -]+$/, "a path below the agent's home");

const common = {
  /** Where the key comes from. It stays on this machine; the gateway puts it on. */
  credential: z
    .string()
    .regex(/^(?:env:[A-Za-z_]\w*|file:\S.*|command:\s*\S.*)$/s, "env:NAME, file:PATH or command:…")
    .optional(),
  /** The service's own address unless this is said; with /v1 where the service has it so. */
  base_url: z.url({ protocol: /^https?$/ }).optional(),
  model: z
    .string()
    .regex(/^[\w./:@+-]{1,100}$/, "a model's name")
    .optional(),
  /** The image for it where a repository names none. */
  image: ImageName.optional(),
  /** Without a byte from the service for so long, it counts as not answering. */
  timeout_seconds: seconds.default(300),
  /** How long nothing but failures of the service is put up with; agents retry by themselves. */
  patience_seconds: seconds.default(300),
  /** US dollars for a million tokens, where the agent does not tell its cost. */
  price: z
    .strictObject({
      input: z.number().nonnegative(),
      cached: z.number().nonnegative().default(0),
      output: z.number().nonnegative(),
    })
    .optional(),
  /** A login that cannot be injected goes into the container: see docs/agents.md. */
  expose: z.literal(true).optional(),
  /** That login, a file on this machine. */
  login: path.optional(),
  /** More for its environment; nothing secret. */
  env: z.record(z.string().regex(/^[A-Za-z_]\w*$/), z.string().max(4_000)).default({}),
};
const command = z.array(z.string().min(1)).min(1);
const api = z.enum(["anthropic", "openai", "gemini"]);
export type Api = z.infer<typeof api>;

export const Agent = z.discriminatedUnion("adapter", [
  z.strictObject({ adapter: z.literal("claude"), ...common }),
  z.strictObject({ adapter: z.literal("codex"), ...common }),
  z.strictObject({ adapter: z.literal("opencode"), ...common }),
  z.strictObject({
    adapter: z.literal("acp"),
    command,
    api: api.optional(),
    /** What it remembers by, below its home. */
    session_files: z.array(below).max(20).optional(),
    ...common,
  }),
  z.strictObject({
    adapter: z.literal("script"),
    /** The command line, run in a login shell's environment inside the container. */
    command,
    api: api.optional(),
    session_files: z.array(below).max(20).default([]),
    lines: z.array(RuleShape).max(50).default([]),
    ...common,
  }),
]);
export type Agent = z.infer<typeof Agent>;

/** Where each adapter's own login lies, below the agent's home; null: it has none. */
export const loginPlaces = {
  claude: ".claude/.credentials.json",
  codex: ".codex/auth.json",
  opencode: ".local/share/opencode/auth.json",
  acp: null,
  script: null,
} as const satisfies Record<Agent["adapter"], string | null>;

/** An agent of daemon.yml, with what is missing in it as mistakes. */
export const AgentSettings = Agent.superRefine((agent, context) => {
  const wrong = (message: string, where: string) =>
    context.addIssue({ code: "custom", message, path: [where] });
  const { credential, base_url, expose, login } = agent;
  if (expose && !login) wrong("`expose: true` needs `login:`, the file that goes in", "login");
  if (login && !expose)
    wrong("the file would go into the container: say so by `expose: true`", "login");
  if (expose && loginPlaces[agent.adapter] === null)
    wrong(`the adapter ${agent.adapter} knows no place for a login`, "expose");
  if (expose && credential)
    wrong("with `expose` the gateway is not used: leave one out", "credential");
  const needsKey = apiOf(agent) !== null && !base_url && !expose;
  if (needsKey && !credential)
    wrong(
      "needs `credential:` (env:NAME, file:PATH or command:…), or a `base_url:` of a server without one",
      "credential",
    );
  if (agent.adapter === "opencode" && !agent.model && !expose)
    wrong("opencode needs `model:`, in its service's words", "model");
});

/** The kind of model service that an agent speaks to; null: none, as far as Trimo knows. */
export function apiOf(agent: Agent): Api | null {
  switch (agent.adapter) {
    case "claude":
      return "anthropic";
    case "codex":
    case "opencode":
      return "openai";
    default:
      return agent.api ?? null;
  }
}
