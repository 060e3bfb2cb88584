import { z } from "zod";
import { AgentName, ImageName } from "./names.ts";

/** `cpus` in cores, memory and disk as `512m` or `4g`, `minutes` for the whole run. */
export const size = z.string().regex(/^[1-9][0-9]{0,5}[mg]$/, "a size such as 512m or 4g");
export const Limits = z.strictObject({
  cpus: z.number().positive().max(512),
  memory: size,
  pids: z.number().int().min(16).max(65_536),
  disk: size,
  minutes: z.number().positive().max(1_440),
  /** What preboot may take. */
  preboot_seconds: z.number().int().min(1).max(3_600),
  /** What one run may use up: tokens in and out without those from a cache, and US dollars. */
  tokens: z.number().int().min(1_000).max(10_000_000_000),
  usd: z.number().positive().max(100_000),
});
export type Limits = z.infer<typeof Limits>;

/** `host:port`; a leading `*.` matches every name below. */
export const HostPort = z
  .string()
  .regex(/^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?:[0-9]{1,5}$/, "host:port, in lower case");

/** Verify commands of one repository, and the length of each in characters. */
const verifyMax = 10;
const verifyLengthMax = 1_000;

const role = z.enum(["read", "triage", "write", "maintain", "admin"]);

/** A search, in GitHub's words, at most this long; and the runs one firing may start. */
const queryMax = 200;
const startedMax = 20;
/** A source of work: CI that fails on a pipeline's branch, or a search at set times (cron, UTC). */
const Source = z.union([
  z.strictObject({ ci: z.literal("failed"), most: z.number().int().min(1).max(startedMax) }),
  z.strictObject({
    /** Five fields, in UTC, as crontab(5) has them. */
    schedule: z
      .string()
      .max(100)
      .regex(/^\s*([0-9*,/A-Za-z-]+\s+){4}[0-9*,/A-Za-z-]+\s*$/, "five fields such as 0 6 * * 1-5"),
    query: z.string().min(1).max(queryMax),
    most: z.number().int().min(1).max(startedMax),
    agent: AgentName.optional(),
  }),
]);

/** `.github/trimo.yml` at the default branch. Every key is optional; unknown ones are mistakes. */
const Keys = z.strictObject({
  /** One, or several: the next takes over at once when the quota of the one before is used up. */
  agent: z.union([AgentName, z.array(AgentName).min(1).max(10)]).optional(),
  image: ImageName.optional(),
  /** A Dockerfile in the repository, built on the machine from the default branch; its root is the context. */
  build: z
    .string()
    .max(200)
    .regex(
      /^(?!.*(?:^|\/)\.\.(?:\/|$))[A-Za-z0-9_.][A-Za-z0-9_./-]*$/,
      "the path of a Dockerfile, such as .trimo/Dockerfile",
    )
    .optional(),
  labels: z
    .record(
      z.string().min(1).max(50),
      z.strictObject({ agent: AgentName.optional(), image: ImageName.optional() }),
    )
    .optional(),
  branch: z
    .string()
    .max(100)
    .regex(/^[A-Za-z0-9_][A-Za-z0-9._/{}-]*$/, "a branch template such as trimo/{number}-{slug}")
    .refine((template) => template.includes("{number}"), "the template needs {number}")
    .optional(),
  pull_request: z.enum(["draft", "ready", "manual"]).optional(),
  /** Whether the branch goes when its pull request is merged. */
  delete_branch: z.boolean().optional(),
  /** The permission each command needs here, where it is not `write`. */
  commands: z
    .strictObject({
      run: role,
      fix: role,
      continue: role,
      tell: role,
      retry: role,
      cancel: role,
      status: role,
      done: role,
      help: role,
    })
    .partial()
    .optional(),
  discover: z.array(Source).max(10).optional(),
  verify: z.array(z.string().min(1).max(verifyLengthMax)).max(verifyMax).optional(),
  limits: Limits.partial().optional(),
  egress: z.strictObject({ allow: z.array(HostPort).max(100) }).optional(),
});
export const TrimoYml = Keys.refine(({ image, build }) => !(image && build), {
  path: ["build"],
  message: "`image` and `build` exclude each other: keep one",
});
export type TrimoYml = z.infer<typeof TrimoYml>;

/** Where it lies in a repository. */
export const trimoYmlPath = ".github/trimo.yml";

/** What `yaml` gives, as far as it is needed here; the parser itself is the caller's. */
type YamlDocument = {
  errors: { message: string; linePos?: [{ line: number }, ...unknown[]] | undefined }[];
  toJS(options: { maxAliasCount: number }): unknown;
  getIn(path: never, keepScalar: true): unknown;
};
export type Mistake = { line: number | null; text: string };

/** Of the file, and of what is wrong with it. */
const charactersMax = 64 * 1024;
const mistakesMax = 50;

/** `.github/trimo.yml` as text → what it says, or every mistake with its line. */
export function readTrimoYml(
  text: string | null,
  parse: (text: string) => YamlDocument,
): { config: TrimoYml; mistakes: Mistake[] } {
  if (text === null || text.trim() === "") return { config: {}, mistakes: [] };
  // Anybody may propose one: a large one would keep the parser busy for minutes.
  if (text.length > charactersMax)
    return {
      config: {},
      mistakes: [{ line: null, text: `more than ${charactersMax} characters` }],
    };
  const document = parse(text);
  if (document.errors.length > 0)
    return {
      config: {},
      mistakes: document.errors.slice(0, mistakesMax).map((error) => ({
        line: error.linePos?.[0].line ?? null,
        text: (error.message.split("\n")[0] ?? "").replace(/ at line \d+, column \d+:?$/, ""),
      })),
    };
  const told = javaScriptOf(document);
  const parsed = TrimoYml.safeParse(told);
  if (parsed.success) return { config: parsed.data, mistakes: [] };
  // Who may what holds also while something else is wrong: a mistake must not open a door.
  const commands = Keys.shape.commands.safeParse((told as { commands?: unknown }).commands);
  const issues = parsed.error.issues.slice(0, mistakesMax) as Issue[];
  return {
    config: commands.success && commands.data ? { commands: commands.data } : {},
    mistakes: issues.flatMap((issue) => mistakesOf(issue, document, text)),
  };
}

/** Too many aliases are a bomb, and an error of the parser's. */
function javaScriptOf(document: YamlDocument): unknown {
  try {
    return document.toJS({ maxAliasCount: 20 }) ?? {};
  } catch (error) {
    return String(error);
  }
}

type Pair = { key?: { value?: unknown; range?: number[] } };
type Issue = {
  path: PropertyKey[];
  message: string;
  code?: string;
  keys?: string[];
  /** Of a union: what each of its forms had against it. */
  errors?: Issue[][];
};

function mistakesOf(issue: Issue, document: YamlDocument, text: string): Mistake[] {
  const lineOf = (path: PropertyKey[]) => {
    for (let length = path.length; length > 0; length--) {
      const node = document.getIn(path.slice(0, length) as never, true) as
        | { range?: number[] }
        | undefined;
      if (node?.range) return text.slice(0, node.range[0]).split("\n").length;
    }
    return null;
  };
  const lineOfKey = (path: PropertyKey[], key: string) => {
    const map = document.getIn(path as never, true) as { items?: Pair[] } | undefined;
    const start = map?.items?.find((pair) => pair.key?.value === key)?.key?.range?.[0];
    return start === undefined ? lineOf(path) : text.slice(0, start).split("\n").length;
  };
  if (issue.code === "unrecognized_keys")
    return (issue.keys ?? []).slice(0, mistakesMax).map((key) => ({
      line: lineOfKey(issue.path, key),
      text: `\`${[...issue.path, key].join(".")}\` is not a key that Trimo knows`,
    }));
  const nearest = issue.errors?.toSorted((a, b) => a.length - b.length)[0];
  if (issue.code === "invalid_union" && nearest)
    return nearest.flatMap((inner) =>
      mistakesOf({ ...inner, path: [...issue.path, ...inner.path] }, document, text),
    );
  const where = issue.path.length > 0 ? `\`${issue.path.join(".")}\`: ` : "";
  return [{ line: lineOf(issue.path), text: `${where}${issue.message}` }];
}

/** `line 3: …`, for people. */
export const mistakeLine = ({ line, text }: Mistake): string =>
  line === null ? text : `line ${line}: ${text}`;

/** Labels that steer the queue; they start nothing and name no agent. */
export const nowLabel = "trimo:now";
export const holdLabel = "trimo:hold";

/** The labels that start a run where trimo.yml names none: `trimo`, and `trimo:AGENT`. */
export function labelIntent(
  label: string,
  config: TrimoYml,
): { agent: string | null; image: string | null } | null {
  if ([nowLabel, holdLabel].includes(label.toLowerCase())) return null;
  if (config.labels) {
    const named = Object.entries(config.labels).find(
      ([name]) => name.toLowerCase() === label.toLowerCase(),
    );
    return named ? { agent: named[1].agent ?? null, image: named[1].image ?? null } : null;
  }
  const match = /^trimo(?::([a-z0-9][a-z0-9_-]{0,39}))?$/.exec(label.toLowerCase());
  if (!match) return null;
  return { agent: match[1] ?? null, image: null };
}

/** The agents a repository wants, in the order they take over; empty: the machine's first. */
export const agentsOf = ({ agent }: TrimoYml): string[] =>
  agent === undefined ? [] : Array.isArray(agent) ? agent : [agent];
