import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import MarkdownIt from "markdown-it";
import { expect, test } from "vitest";
import { z } from "zod";
import { TrimoYml } from "../app/protocol/trimo-yml.ts";
import { DaemonYml } from "../daemon/config.ts";

// What the prose promises: its links lead somewhere, and no setting is undocumented.

const root = fileURLToPath(new URL("..", import.meta.url));
const pages = ["", "docs", "images", "daemon/agents"].flatMap((folder) =>
  readdirSync(join(root, folder))
    .filter((name) => name.endsWith(".md"))
    .map((name) => join(folder, name)),
);
const read = (page: string) => readFileSync(join(root, page), "utf8");

type Token = ReturnType<InstanceType<typeof MarkdownIt>["parse"]>[number];
const flat = (tokens: Token[]): Token[] =>
  tokens.flatMap((token) => [token, ...flat(token.children ?? [])]);
const tokensOf = (page: string) => flat(new MarkdownIt().parse(read(page), {}));

/** The anchors of a page's headings, as GitHub makes them. */
function anchorsOf(page: string): string[] {
  const tokens = tokensOf(page);
  return tokens.flatMap((token, at) => {
    if (token.type !== "heading_open") return [];
    const words = tokens[at + 1]?.content ?? "";
    return [
      words
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, "")
        .replaceAll(" ", "-"),
    ];
  });
}

test.each(pages)("the links of %s lead to files and headings that exist", (page) => {
  const targets = tokensOf(page).flatMap((token) =>
    [token.attrGet("href"), token.attrGet("src")].filter((target) => typeof target === "string"),
  );
  const broken = targets.filter((target) => {
    if (/^https?:/.test(target)) return !URL.canParse(target);
    const [path = "", anchor] = target.split("#");
    const file = path === "" ? page : join(dirname(page), path);
    if (!existsSync(join(root, file))) return true;
    return anchor !== undefined && !anchorsOf(file).includes(anchor);
  });
  expect(broken).toEqual([]);
});

type Schema = {
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | false;
  items?: Schema;
  anyOf?: Schema[];
  oneOf?: Schema[];
};

/** Every key of a schema, at whatever depth; the names that people choose are left out. */
function keysOf(schema: Schema): string[] {
  const inner = [
    ...Object.values(schema.properties ?? {}),
    ...(schema.additionalProperties ? [schema.additionalProperties] : []),
    ...(schema.items ? [schema.items] : []),
    ...(schema.anyOf ?? []),
    ...(schema.oneOf ?? []),
  ];
  return [...new Set([...Object.keys(schema.properties ?? {}), ...inner.flatMap(keysOf)])];
}

/** Of a page, what stands below a heading of the second level. */
function section(page: string, heading: string): string {
  const text = read(page);
  const from = text.indexOf(`\n## ${heading}\n`);
  expect(from).toBeGreaterThan(0);
  const to = text.indexOf("\n## ", from + 4);
  return text.slice(from, to < 0 ? undefined : to);
}

/** Keys of a script's `lines`, and the commands, which have pages of their own. */
const elsewhere: Record<string, string[]> = {
  "daemon/agents/README.md": [
    ...["when", "say", "tool", "target", "edit", "ask", "usd", "error", "end", "command"],
    ...["input", "output", "cached"],
  ],
  "docs/commands.md": [
    "run",
    "fix",
    "continue",
    "retry",
    "tell",
    "cancel",
    "status",
    "help",
    "done",
  ],
};

test.each([
  ["daemon.yml", "daemon.yml", DaemonYml],
  ["trimo.yml", ".github/trimo.yml", TrimoYml],
])("every key of %s is documented", (_name, heading, schema) => {
  const keys = keysOf(z.toJSONSchema(schema, { io: "input" }) as Schema);
  expect(keys.length).toBeGreaterThan(10);
  const text = section("docs/configuration.md", heading);
  const limits = section("docs/configuration.md", "daemon.yml");
  const missing = keys.filter((key) => {
    const named = new RegExp(`\`(?:[\\w.]+\\.)?${key}(?:[\`:.])`);
    if (named.test(text) || new RegExp(`\`limits\\.${key}\``).test(limits)) return false;
    return !Object.entries(elsewhere).some(
      ([page, known]) => known.includes(key) && read(page).includes(key),
    );
  });
  expect(missing).toEqual([]);
});

test("every variable that the app reads is documented", () => {
  const source = read("app/config.ts");
  const names = [...source.matchAll(/"([A-Z][A-Z_]+)"|env\.([A-Z][A-Z_]+)/g)].map(
    ([, quoted, dotted]) => quoted ?? dotted ?? "",
  );
  const text = section("docs/configuration.md", "The app's environment");
  expect(names.length).toBeGreaterThan(5);
  expect([...new Set(names)].filter((name) => !text.includes(`\`${name}\``))).toEqual([]);
});
