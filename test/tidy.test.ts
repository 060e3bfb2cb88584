import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
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
const isIn = (name: string, ...places: string[]) => places.some((place) => name.startsWith(place));

test("the daemon imports of the app only its protocol", () => {
  expect(
    breaches(within("daemon"), (name) => !isIn(name, "app/") || isIn(name, "app/protocol/")),
  ).toEqual([]);
  expect(breaches(within("daemon"), (name) => !isIn(name, "dashboard/", "bin/"))).toEqual([]);
});

test("the app imports neither daemon nor dashboard, but for main.ts that mounts the dashboard", () => {
  const allowed = (name: string, file: string) =>
    !isIn(name, "daemon/", "dashboard/", "images/", "bin/") ||
    (file === "app/main.ts" && isIn(name, "dashboard/"));
  expect(breaches(within("app"), allowed)).toEqual([]);
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
  const product = files.filter((file) => !file.startsWith("test/"));
  expect(breaches(product, (name) => !isIn(name, "test/"))).toEqual([]);
});

test("one file imports each foreign world", () => {
  const owners: [RegExp, string][] = [
    [/^probot$|^@octokit\//, "app/github/app.ts"],
    [/^dockerode$/, "daemon/docker/container.ts"],
    [/^simple-git$/, "daemon/repository/git.ts"],
    [/^@libsql\//, "app/state/database.ts"],
  ];
  const product = files.filter((file) => !file.startsWith("test/"));
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

test("one file writes each table", () => {
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
    deliveries: ["app/inbound/listen.ts"],
    intents: ["app/intents/intent.ts"],
    pipelines: ["app/state/pipeline.ts"],
    runs: ["app/state/run.ts"],
    leases: ["app/state/lease.ts"],
    pauses: ["app/state/pause.ts"],
    tells: ["app/state/tell.ts"],
    daemons: ["app/daemons/routes.ts"],
    events: ["app/state/event.ts"],
    reports: ["app/state/report.ts"],
    checkRuns: ["app/reports/write-check.ts"],
    schedules: ["app/state/schedule.ts"],
    workspaces: ["app/state/workspace.ts"],
  });
});

test("no file is a junk drawer, and none exports by default", () => {
  const names = /(^|\/)(utils?|helpers?|common|manager|service|misc|index)\.tsx?$/;
  expect(files.filter((file) => names.test(file))).toEqual([]);
  const product = files.filter((file) => !file.startsWith("test/"));
  expect(product.filter((file) => /^export default/m.test(text.get(file) ?? ""))).toEqual([]);
});

test("functions are at most 70 lines", () => {
  const product = files.filter((file) => !file.startsWith("test/") && file.endsWith(".ts"));
  const long = product.flatMap((file) => {
    const lines = (text.get(file) ?? "").split("\n");
    return lines.flatMap((line, at) => {
      if (!/^(export )?(async )?function \w+/.test(line)) return [];
      const end = lines.findIndex((other, index) => index > at && other === "}");
      return end - at > 70 ? [`${file}:${at + 1} ${end - at} lines`] : [];
    });
  });
  // github.ts has two tables of doors, one line or a few each.
  expect(long.filter((row) => !row.startsWith("app/github/app.ts"))).toEqual([]);
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
