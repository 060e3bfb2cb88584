import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, test } from "vitest";
import * as yaml from "yaml";
import { readTrimoYml } from "../../../app/protocol/trimo-yml.ts";
import { imagesOf } from "../../../daemon/images/dockerfile.ts";
import { planImage } from "../../../daemon/images/init/plan.ts";
import { readProject } from "../../../daemon/images/init/project.ts";

const fixtures = fileURLToPath(new URL("../../images/fixtures", import.meta.url));
const made: string[] = [];
afterAll(() => made.forEach((folder) => void rmSync(folder, { recursive: true })));

/** A repository of just these files. */
function planOf(files: Record<string, string>) {
  const folder = mkdtempSync(join(tmpdir(), "trimo-init-"));
  made.push(folder);
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const { files: planned, why, missing } = planImage(readProject(folder));
  const file = (name: string) => planned[name] ?? "";
  return { planned, file, why: why.join("\n"), missing: missing.join("\n") };
}

describe("trimo image init", () => {
  test.each(
    readdirSync(fixtures),
  )("writes a trimo.yml for %s that Trimo reads, on the base", (name) => {
    const { files } = planImage(readProject(join(fixtures, name)));
    const yml = files[".github/trimo.yml"] ?? "";
    const { config, mistakes } = readTrimoYml(yml, yaml);
    expect(mistakes).toEqual([]);
    expect(config.build).toBe(".trimo/Dockerfile");
    expect(imagesOf(files[".trimo/Dockerfile"] ?? "").images).toEqual(["trimo/base:bookworm"]);
  });

  test("carries names, passwords and the application's environment, and quotes what it must", () => {
    const { file, missing } = planOf({
      "compose.yaml": `services:
  api: { build: ., environment: ["TOKEN=it's $5", "FROM_OUTSIDE=\${SECRET}", "WITH=\${X:-a b}"] }
  db: { image: "postgres:15", environment: { POSTGRES_USER: shop, POSTGRES_PASSWORD: "o'clock" } }
  db2: { image: postgres }
  queue: { image: "nats:2" }
`,
    });
    expect(file(".trimo/services.sh")).toContain(
      `create role "shop" with login superuser password 'o''clock';`,
    );
    expect(file(".trimo/services.sh")).toContain("for name in shop shop_test; do");
    expect(file(".trimo/environment.sh")).toContain(`export TOKEN='it'\\''s $5'`);
    expect(file(".trimo/environment.sh")).toContain("export WITH='a b'");
    expect(file(".trimo/environment.sh")).not.toContain("FROM_OUTSIDE");
    expect(file(".trimo/preboot.sh")).toContain('echo "127.0.0.1 db db2" >> /etc/hosts');
    expect(file(".trimo/preboot.sh").match(/start-service postgres/g)).toHaveLength(1);
    expect(missing).toContain("queue is not carried over: nats:2 is not known here");
  });

  test("takes versions from the repository's own files, the nearest first", () => {
    const packageJson = JSON.stringify({
      engines: { node: ">=18" },
      packageManager: "pnpm@9.1.0+sha512.x",
      scripts: { test: "vitest" },
    });
    const { file, why } = planOf({
      "package.json": packageJson,
      "pnpm-lock.yaml": "",
      ".nvmrc": "v20.11\n",
    });
    expect(file(".trimo/Dockerfile")).toContain("install-node 20.11");
    expect(file(".trimo/Dockerfile")).toContain("npm install --global pnpm@9.1.0");
    expect(file(".github/trimo.yml")).toContain("pnpm test");
    expect(why).toContain("the repository's own file says so");
  });

  test("says what it could not read, and goes on", () => {
    const { planned, missing } = planOf({ "package.json": "{ broken", "compose.yaml": "a: [" });
    expect(missing).toContain("package.json cannot be read");
    expect(missing).toContain("compose.yaml cannot be read");
    expect(Object.keys(planned)).toContain(".trimo/Dockerfile");
  });

  test("reads dependencies of Python in each of their places", () => {
    const read = (files: Record<string, string>) => planOf(files).why;
    expect(read({ "requirements.txt": "# web\nflask==3\n\npytest\n" })).toContain(
      "2 packages of requirements.txt",
    );
    const list = `[project]\ndependencies = [\n  "flask>=3",\n  'httpx[http2]',\n]\n`;
    expect(read({ "pyproject.toml": list })).toContain("2 packages of pyproject.toml");
    const markers = `[project]\ndependencies = ["flask", "tomli; python_version < '3.11'"]\n[other]\nmore = [\n "x",\n]\n`;
    expect(read({ "pyproject.toml": markers })).toContain("2 packages of pyproject.toml");
    const poetry = `[tool.poetry.dependencies]\npython = "^3.12"\nflask = "*"\n\n[tool.other]\nx = 1\n`;
    expect(read({ "pyproject.toml": poetry })).toContain("1 packages of pyproject.toml");
  });

  test("installs nothing that needs more than its lock", () => {
    const { file, why } = planOf({
      "package.json": JSON.stringify({ workspaces: ["a"], scripts: { test: "x" } }),
      "package-lock.json": "{}",
      "requirements.txt": "-r base.txt\nflask\n",
    });
    expect(file(".trimo/Dockerfile")).not.toContain("npm ci");
    expect(file(".trimo/Dockerfile")).not.toContain("pip install");
    expect(why).toContain("workspaces, install scripts");
    expect(why).toContain("names other files (-r base.txt)");
  });

  test("asks go.dev for a Go that Debian has not", () => {
    const { file } = planOf({
      "go.mod": "module x\n\ngo 1.22\n\nrequire github.com/lib/pq v1.10.7\n",
    });
    expect(file(".trimo/Dockerfile")).toContain("https://go.dev/dl/go1.22.0.linux-");
    expect(file(".trimo/Dockerfile")).toContain("go mod download");
  });
});
