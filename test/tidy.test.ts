import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { expect, test } from "vitest";
import * as schema from "../app/state/schema.ts";

// The walls of the design, as tests.

const root = fileURLToPath(new URL("..", import.meta.url));
const folders = ["app", "daemon", "dashboard", "images", "bin", "test"];
const files = folders.flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.tsx?$/.test(name))
    .map((name) => join(folder, name)),
);
const text = new Map(files.map((file) => [file, readFileSync(join(root, file), "utf8")]));
const imports = new Map(files.map((file) => [file, importsOf(file)]));

function importsOf(file: string): string[] {
  const found = (text.get(file) ?? "").matchAll(
    /^(?:import|export|\}).*?\bfrom\s+"([^"]+)"|\bimport\s*\(?\s*"([^"]+)"/gm,
  );
  return [...found]
    .map(([, from, direct]) => from ?? direct ?? "")
    .map((name) => (name.startsWith(".") ? normalize(join(dirname(file), name)) : name));
}
const within = (folder: string) => files.filter((file) => file.startsWith(`${folder}/`));
/** `file → import` for each import of these files that the rule does not allow. */
function breaches(of: string[], allowed: (name: string, file: string) => boolean): string[] {
  return of.flatMap((file) =>
    (imports.get(file) ?? [])
      .filter((name) => !allowed(name, file))
      .map((name) => `${file} → ${name}`),
  );
}
const product = files.filter((file) => !file.startsWith("test/"));
const isIn = (name: string, ...places: string[]) => places.some((place) => name.startsWith(place));

/**
 * A folder is one right, and a step on a run's way: it imports only from folders to its right. Those of
 * one step (one row) do not import each other. "" is what lies beside the folders.
 */
const orders = {
  app: [
    [""],
    ["inbound"],
    ["intents", "daemons", "reports"],
    ["prompt"],
    ["view"],
    ["dispatch"],
    ["state"],
    ["github"],
    ["text"],
    ["protocol"],
  ],
  daemon: [
    [""],
    ["run"],
    ["images"],
    ["gateway"],
    ["agents", "repository", "server", "docker"],
    ["redact.ts", "config.ts", "disk.ts", "agent-settings.ts"],
  ],
};

test.each(
  Object.entries(orders),
)("in %s each folder imports only what is to its right", (program, rows) => {
  const stepOf = (path: string) => {
    const below = path.slice(program.length + 1);
    const named = rows.findIndex((row) => row.includes(below.split("/")[0] ?? ""));
    return named < 0 ? 0 : named;
  };
  const folderOf = (path: string) => path.split("/").slice(0, -1).join("/").split("/")[1] ?? "";
  const allowed = (name: string, file: string) => {
    if (!isIn(name, `${program}/`)) return true;
    if (folderOf(name) === folderOf(file)) return true;
    return stepOf(name) > stepOf(file);
  };
  expect(breaches(within(program), allowed)).toEqual([]);
  const known = new Set(rows.flat());
  const folders = within(program).map(folderOf);
  expect([...new Set(folders)].filter((folder) => !known.has(folder))).toEqual([]);
});

test.each([
  ["app", ["app/"]],
  ["app/protocol", ["app/protocol/"]],
  ["daemon", ["daemon/", "app/protocol/", "images/base/"]],
  ["dashboard", ["dashboard/", "app/state/", "app/view/", "app/protocol/"]],
  ["images", ["images/base/"]],
])("%s imports of Trimo only %j", (folder, places) => {
  const ours = ["app/", "daemon/", "dashboard/", "images/", "bin/"];
  // The one place where the app mounts its pages.
  const isMount = (name: string, file: string) =>
    file === "app/main.ts" && isIn(name, "dashboard/");
  const allowed = (name: string, file: string) =>
    !isIn(name, ...ours) || isIn(name, ...places) || isMount(name, file);
  expect(breaches(within(folder), allowed)).toEqual([]);
});

test("the protocol imports only zod", () => {
  expect(
    breaches(within("app/protocol"), (name) => name === "zod" || isIn(name, "app/protocol/")),
  ).toEqual([]);
});

test("what runs inside a container imports only Node and its own folder", () => {
  expect(breaches(within("images"), (name) => isIn(name, "node:", "images/base/"))).toEqual([]);
});

test("nothing but tests imports tests", () => {
  expect(breaches(product, (name) => !isIn(name, "test/"))).toEqual([]);
});

test("one file imports each foreign world", () => {
  const owners: [RegExp, string][] = [
    [/^probot$|^@octokit\//, "app/github/app.ts"],
    [/^dockerode$/, "daemon/docker/docker-engine.ts"],
    [/^simple-git$/, "daemon/repository/git.ts"],
    [/^@libsql\//, "app/state/database.ts"],
  ];
  for (const [library, owner] of owners) {
    const users = product.filter((file) => {
      const values = (text.get(file) ?? "").replace(/import type [^;]+;/g, "");
      return [...values.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].some(([, name = ""]) =>
        library.test(name),
      );
    });
    expect(users).toEqual([owner]);
  }
});

test("there are no cycles", () => {
  const done = new Set<string>();
  const visit = (file: string, path: string[]): string[] => {
    if (path.includes(file)) return [[...path.slice(path.indexOf(file)), file].join(" → ")];
    if (done.has(file)) return [];
    const cycles = (imports.get(file) ?? [])
      .filter((name) => text.has(name))
      .flatMap((name) => visit(name, [...path, file]));
    done.add(file);
    return cycles;
  };
  expect(files.flatMap((file) => visit(file, []))).toEqual([]);
});

test("one file of app/state writes each table", () => {
  const owners: Record<string, string[]> = {};
  for (const file of within("app")) {
    for (const [, table = ""] of (text.get(file) ?? "").matchAll(
      /\.(?:insert|update|delete)\((\w+)\)/g,
    ))
      if (Object.hasOwn(schema, table)) owners[table] = [...(owners[table] ?? []), file];
  }
  const writers = Object.fromEntries(
    Object.entries(owners).map(([table, list]) => [table, [...new Set(list)]]),
  );
  expect(writers).toEqual({
    checkRuns: ["app/state/check-run.ts"],
    daemons: ["app/state/daemon.ts"],
    deliveries: ["app/state/delivery.ts"],
    events: ["app/state/event.ts"],
    intents: ["app/state/intent.ts"],
    leases: ["app/state/lease.ts"],
    marks: ["app/state/mark.ts"],
    messages: ["app/state/message.ts"],
    pauses: ["app/state/pause.ts"],
    pipelineEvents: ["app/state/pipeline-event.ts"],
    pipelines: ["app/state/pipeline.ts"],
    reports: ["app/state/report.ts"],
    runs: ["app/state/run.ts"],
    schedules: ["app/state/schedule.ts"],
    workspaces: ["app/state/workspace.ts"],
  });
});

test("no file is a junk drawer, and none exports by default", () => {
  const names = /(^|\/)(utils?|helpers?|common|manager|service|misc|index)\.tsx?$/;
  expect(files.filter((file) => names.test(file))).toEqual([]);
  expect(product.filter((file) => /^export default/m.test(text.get(file) ?? ""))).toEqual([]);
});

const sources = new Map(
  product.map((file) => [
    file,
    ts.createSourceFile(file, text.get(file) ?? "", ts.ScriptTarget.Latest, true),
  ]),
);

/** `file:line, lines` of each function, method and arrow of a file. */
function* functionsOf(file: string): Generator<{ at: string; lines: number }> {
  const source = sources.get(file);
  if (!source) return;
  const lineOf = (position: number) => source.getLineAndCharacterOfPosition(position).line + 1;
  const found: { at: string; lines: number }[] = [];
  const visit = (node: ts.Node) => {
    if (ts.isFunctionLike(node) && "body" in node && node.body) {
      const first = lineOf(node.getStart());
      found.push({ at: `${file}:${first}`, lines: lineOf(node.end) - first + 1 });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  yield* found;
}

test("functions are at most 70 lines, components 90 and files 400", () => {
  const long = product.flatMap((file) =>
    [...functionsOf(file)]
      .filter(({ lines }) => lines > (file.endsWith(".tsx") ? 90 : 70))
      .map(({ at, lines }) => `${at}, ${lines} lines`),
  );
  expect(long).toEqual([]);
  const lines = (file: string) => (text.get(file) ?? "").split("\n").length;
  expect(product.filter((file) => lines(file) > 400)).toEqual([]);
});

test("no two exported types of one program have the same name", () => {
  const names = new Map<string, string[]>();
  for (const file of product)
    for (const [, name = ""] of (text.get(file) ?? "").matchAll(
      /^export (?:type|interface|class|enum) (\w+)/gm,
    )) {
      const key = `${file.split("/")[0]} ${name}`;
      names.set(key, [...(names.get(key) ?? []), file]);
    }
  expect([...names].filter(([, places]) => places.length > 1)).toEqual([]);
});

test("what is caught and dropped says why", () => {
  const dropped = /(?:\.catch|\.on\("error",)\s?\(?\(\) => \{\}\)/;
  const silent = product.flatMap((file) => {
    const lines = (text.get(file) ?? "").split("\n");
    return lines.flatMap((line, at) =>
      dropped.test(line) && !lines[at - 1]?.trim().startsWith("//") ? [`${file}:${at + 1}`] : [],
    );
  });
  expect(silent).toEqual([]);
});

test("time and chance come from the clock, in app and daemon", () => {
  const raw =
    /\bDate\.now\(|\bMath\.random\(|(?<!\.)\bset(?:Timeout|Interval|Immediate)\(|\bnew Date\(\)/;
  const users = [...within("app"), ...within("daemon")].filter((file) =>
    raw.test(text.get(file) ?? ""),
  );
  expect(users).toEqual(["app/protocol/clock.ts"]);
});

test("a migration is never older than one before it", () => {
  const journal = JSON.parse(readFileSync(join(root, "migrations/meta/_journal.json"), "utf8"));
  const entries = journal.entries as { idx: number; when: number; tag: string }[];
  expect(entries.map((entry) => entry.idx)).toEqual(entries.map((_, index) => index));
  const times = entries.map((entry) => entry.when);
  expect(times).toEqual([...times].sort((a, b) => a - b));
  const onDisk = readdirSync(join(root, "migrations")).filter((name) => name.endsWith(".sql"));
  expect(onDisk.sort()).toEqual(entries.map((entry) => `${entry.tag}.sql`));
});

/** Sentences of a file's string literals, each with the node that it stands in. */
function* sentencesOf(file: string): Generator<{ at: string; text: string; node: ts.Node }> {
  const source = sources.get(file);
  if (!source) return;
  const found: { at: string; text: string; node: ts.Node }[] = [];
  const visit = (node: ts.Node) => {
    const words = ts.isStringLiteralLike(node)
      ? node.text
      : ts.isTemplateExpression(node)
        ? node.head.text + node.templateSpans.map((span) => `X${span.literal.text}`).join("")
        : "";
    const isSentence = /^[A-Z`].*[a-z].*[.!?]["`)]*$/s.test(words.trim());
    if (isSentence && words.trim().split(/\s+/).length >= 4) {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart());
      found.push({ at: `${file}:${line + 1}`, text: words, node });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  yield* found;
}

/** Whether a sentence is the answer to a bad request or a bad setting, which stands where it is refused. */
function isRefusal(node: ts.Node): boolean {
  const { parent } = node;
  if (ts.isNewExpression(parent)) return /Error$/.test(parent.expression.getText());
  if (ts.isPropertyAssignment(parent)) return ["error", "problem"].includes(parent.name.getText());
  if (ts.isCallExpression(parent))
    return /^(problems\.push|need|refused|answer|c\.text)$/.test(parent.expression.getText());
  return false;
}

test("the app's sentences for people stand in view/, those for an agent in prompt/", () => {
  const elsewhere = within("app")
    .filter((file) => !isIn(file, "app/view/", "app/prompt/"))
    .flatMap((file) => [...sentencesOf(file)])
    .filter(({ node }) => !isRefusal(node))
    .map(({ at, text: words }) => `${at} ${words}`);
  expect(elsewhere).toEqual([]);
});

test("every exported function and class of app, daemon and images says what it is", () => {
  const silent = [...within("app"), ...within("daemon"), ...within("images")].flatMap((file) => {
    const source = sources.get(file);
    return (source?.statements.filter(isExportedCode) ?? []).flatMap((statement) => {
      const { line } = statement
        .getSourceFile()
        .getLineAndCharacterOfPosition(statement.getStart());
      return ts.getJSDocCommentsAndTags(statement).length > 0 ? [] : [`${file}:${line + 1}`];
    });
  });
  expect(silent).toEqual([]);
});

function isExportedCode(node: ts.Statement): boolean {
  const isCode =
    ts.isFunctionDeclaration(node) ||
    ts.isClassDeclaration(node) ||
    (ts.isVariableStatement(node) &&
      node.declarationList.declarations.some(
        ({ initializer }) => initializer !== undefined && ts.isArrowFunction(initializer),
      ));
  if (!isCode || !ts.canHaveModifiers(node)) return false;
  return (ts.getModifiers(node) ?? []).some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);
}
