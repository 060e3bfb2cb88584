import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parse } from "yaml";

// What a repository says of itself, read from the files that its own tools read. Nothing is run.

/** One of the compose file's services, as far as an image can have it. */
export type ComposeService = {
  name: string;
  image: string;
  /** Null where the repository itself is built: that is the application. */
  built: boolean;
  environment: Record<string, string>;
};

export type Project = {
  folder: string;
  has(path: string): boolean;
  /** Of .tool-versions, .nvmrc, .python-version and the like: `node` → `22.3.0`. */
  versions: Record<string, string>;
  packageJson: PackageJson | null;
  python: {
    dependencies: string[];
    requires: string | null;
    file: string;
    /** A line that takes from another file, which the build would need as well; empty: none. */
    needsMore: string;
  } | null;
  go: { version: string; modules: number } | null;
  ruby: { version: string | null; gems: string[] } | null;
  services: ComposeService[];
  /** What could not be read, in sentences: it is left out, not guessed. */
  unread: string[];
};

export type PackageJson = {
  name?: string;
  scripts?: Record<string, string>;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  engines?: Record<string, string>;
  packageManager?: string;
  workspaces?: unknown;
};

const bytesMax = 1024 * 1024;
const composeNames = [
  "compose.yaml",
  "compose.yml",
  "docker-compose.yaml",
  "docker-compose.yml",
  ".devcontainer/docker-compose.yml",
  ".devcontainer/compose.yaml",
];

/** Reads what a folder says of its project: manifests, versions, compose files. Nothing is run. */
export function readProject(folder: string): Project {
  const unread: string[] = [];
  const has = (path: string) => existsSync(join(folder, path));
  const text = (path: string): string | null => {
    if (!has(path)) return null;
    if (statSync(join(folder, path)).size <= bytesMax)
      return readFileSync(join(folder, path), "utf8");
    unread.push(`${path} has more than ${bytesMax} bytes`);
    return null;
  };
  const parsed = <T>(path: string, read: (text: string) => T): T | null => {
    const found = text(path);
    if (found === null) return null;
    try {
      return read(found);
    } catch (error) {
      const why = error instanceof Error ? error.message.split("\n")[0] : String(error);
      unread.push(`${path} cannot be read: ${why}`);
      return null;
    }
  };
  const devcontainer =
    parsed(".devcontainer/devcontainer.json", readJsonWithComments) ??
    parsed("devcontainer.json", readJsonWithComments);
  const compose = composeNames.find(has);
  return {
    folder,
    has,
    versions: { ...featuresOf(devcontainer), ...versionsOf(text) },
    packageJson: parsed("package.json", (found) => JSON.parse(found) as PackageJson),
    python: pythonOf(text),
    go: goOf(text("go.mod")),
    ruby: rubyOf(text("Gemfile")),
    services: (compose && parsed(compose, readCompose)) || [],
    unread,
  };
}

type Text = (path: string) => string | null;

const toolNames: Record<string, string> = { nodejs: "node", golang: "go", python3: "python" };

/** `.tool-versions` (asdf, mise), and the files of the languages' own tools, which go before it. */
function versionsOf(text: Text): Record<string, string> {
  const found: Record<string, string> = {};
  for (const line of (text(".tool-versions") ?? "").split("\n")) {
    const [tool = "", version = ""] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (/^\d/.test(version)) found[toolNames[tool] ?? tool] = version;
  }
  const single: [string, string][] = [
    [".nvmrc", "node"],
    [".node-version", "node"],
    [".python-version", "python"],
    [".ruby-version", "ruby"],
  ];
  for (const [file, tool] of single) {
    const version = /\d+(\.\d+)*/.exec(text(file)?.split("\n")[0] ?? "")?.[0];
    if (version) found[tool] = version;
  }
  return found;
}

type Devcontainer = { image?: unknown; features?: Record<string, { version?: unknown } | string> };

/** Languages by a dev container's image and features: `ghcr.io/devcontainers/features/node:1`. */
function featuresOf(devcontainer: unknown): Record<string, string> {
  const { image, features } = (devcontainer ?? {}) as Devcontainer;
  const found: Record<string, string> = {};
  const named = /\/(?:javascript-)?(node|python|go|ruby)(?:[:-].*?)?:(?:\d+-)?(\d+(?:\.\d+)*)/.exec(
    String(image ?? ""),
  );
  if (named?.[1] && named[2]) found[named[1]] = named[2];
  for (const [feature, options] of Object.entries(features ?? {})) {
    const tool = /\/features\/(node|python|go|ruby)(?::|$)/.exec(feature)?.[1];
    const version = String(typeof options === "object" ? options?.version : options);
    if (tool && /^\d/.test(version)) found[tool] = version;
  }
  return found;
}

function pythonOf(text: Text): Project["python"] {
  const pyproject = text("pyproject.toml");
  const requirements = text("requirements.txt");
  if (pyproject === null && requirements === null) return null;
  const listed = (requirements ?? "").split("\n").map((line) => line.replace(/#.*/, "").trim());
  const quoted = stringsOf(/^dependencies\s*=\s*\[/m.exec(pyproject ?? ""));
  const poetry =
    /^\[tool\.poetry\.dependencies\]$([\s\S]*?)(?=^\[|$(?![\s\S]))/m.exec(pyproject ?? "")?.[1] ??
    "";
  const named = [...poetry.matchAll(/^([A-Za-z0-9_.-]+)\s*=/gm)].map((match) => match[1] ?? "");
  return {
    dependencies: [...listed, ...quoted, ...named.filter((name) => name !== "python")].filter(
      (name) => name && !name.startsWith("-"),
    ),
    requires: /^requires-python\s*=\s*["']([^"']+)/m.exec(pyproject ?? "")?.[1] ?? null,
    file: requirements === null ? "pyproject.toml" : "requirements.txt",
    needsMore:
      listed.find((line) => /^(-r|-c|-e|--requirement|--constraint|--editable|\.)/.test(line)) ??
      "",
  };
}

/** The strings of a TOML list that begins where `found` ends, up to its bracket. */
function stringsOf(found: RegExpExecArray | null): string[] {
  if (!found) return [];
  const rest = found.input.slice(found.index + found[0].length);
  const strings: string[] = [];
  for (const [, double, single, end] of rest.matchAll(/"([^"\n]*)"|'([^'\n]*)'|#[^\n]*|(\])/g)) {
    if (end) break;
    const text = double ?? single;
    if (text !== undefined) strings.push(text);
  }
  return strings;
}

function goOf(text: string | null): Project["go"] {
  if (text === null) return null;
  const version = /^go\s+(\d+\.\d+(?:\.\d+)?)/m.exec(text)?.[1] ?? "";
  return {
    version,
    modules: [...text.matchAll(/^\s*(?:require\s+)?[\w.-]+\.[\w./-]+\s+v\d/gm)].length,
  };
}

function rubyOf(text: string | null): Project["ruby"] {
  if (text === null) return null;
  return {
    version: /^\s*ruby\s+["'](?:~>\s*)?(\d+(?:\.\d+)*)/m.exec(text)?.[1] ?? null,
    gems: [...text.matchAll(/^\s*gem\s+["']([^"']+)/gm)].map((match) => match[1] ?? ""),
  };
}

type ComposeYml = {
  services?: Record<
    string,
    { image?: unknown; build?: unknown; environment?: Record<string, unknown> | unknown[] } | null
  >;
};

function readCompose(text: string): ComposeService[] {
  const document = parse(text, { merge: true, maxAliasCount: 20 }) as ComposeYml | null;
  return Object.entries(document?.services ?? {}).map(([name, service]) => ({
    name,
    image: String(service?.image ?? ""),
    built: service?.build !== undefined,
    environment: environmentOf(service?.environment),
  }));
}

/** A map or a list of `NAME=value`; a value from outside stays only where it has a default. */
function environmentOf(
  environment: Record<string, unknown> | unknown[] | undefined,
): Record<string, string> {
  const pairs = Array.isArray(environment)
    ? environment.map((row) => {
        const [name = "", ...value] = String(row).split("=");
        return [name, value.join("=")] as const;
      })
    : Object.entries(environment ?? {}).map(
        ([name, value]) => [name, String(value ?? "")] as const,
      );
  const filled = pairs.map(
    ([name, value]) => [name, value.replace(/\$\{\w+:?-([^}]*)\}/g, "$1")] as const,
  );
  const fromOutside = /(?<!\$)(?:\$\$)*\$(?:\{|[A-Za-z_])/;
  return Object.fromEntries(
    filled
      .filter(([name, value]) => /^\w+$/.test(name) && value !== "" && !fromOutside.test(value))
      .map(([name, value]) => [name, value.replaceAll("$$", "$")]),
  );
}

/** JSON with comments and trailing commas, as editors keep their settings. */
function readJsonWithComments(text: string): unknown {
  const bare = text
    .replace(/("(?:\\.|[^"\\])*")|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (_, string) => string ?? "")
    .replace(/("(?:\\.|[^"\\])*")|,(?=\s*[}\]])/g, (_, string) => string ?? "");
  return JSON.parse(bare);
}
