import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

// Debian has shellcheck as a package; .ci/run installs it.

const root = fileURLToPath(new URL("../../images", import.meta.url));
const scripts = readdirSync(root, { recursive: true, encoding: "utf8" })
  .map((name) => join(root, name))
  .filter((path) => !path.includes("node_modules") && isShell(path));
const hasShellcheck = spawnSync("shellcheck", ["--version"]).status === 0;

function isShell(path: string): boolean {
  try {
    return /^#!.*\b(ba|da|)sh\b|^# shellcheck shell=/.test(readFileSync(path, "utf8"));
  } catch {
    // A folder.
    return false;
  }
}

test("the images' scripts are found", () => {
  expect(scripts.map((path) => path.slice(root.length + 1)).join()).toContain("base/leftovers.sh");
});

test.skipIf(!hasShellcheck)("shellcheck finds nothing in the images' scripts", () => {
  const { stdout, status } = spawnSync(
    "shellcheck",
    ["--format=gcc", "--exclude=SC1091", ...scripts],
    {
      encoding: "utf8",
    },
  );
  expect(stdout).toBe("");
  expect(status).toBe(0);
});
