#!/usr/bin/env node
// The first step of every npm script: makes a fresh clone ready, then runs what follows `--`.
//
//   node bin/ready.mjs [--engine] [--image] -- COMMAND …
//
// Plain JavaScript without dependencies, since it is what installs them.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
process.chdir(root);
const [flags, command] = split(process.argv.slice(2));

process.env.TRIMO_READY_SINCE ??= String(Date.now());

const needed = [20, 18, 1];
const have = process.versions.node.split(".").map(Number);
if (!atLeast(have, needed))
  fail(`Node ${process.versions.node} is too old: Trimo needs ${needed.join(".")} or newer.`);

installDependencies();
if (flags.includes("--engine") || flags.includes("--image"))
  run("node", ["--import", "tsx", "bin/engine.ts", ...flags]);
if (command.length > 0) finish(command);

/** `npm ci` when node_modules is missing or older than the lock file. */
function installDependencies() {
  const installed = join("node_modules", ".package-lock.json");
  const fresh =
    existsSync(installed) && statSync(installed).mtimeMs >= statSync("package-lock.json").mtimeMs;
  if (fresh) return;
  say("installing dependencies (npm ci)");
  const startedAt = Date.now();
  const args = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
  const { status } = spawnSync("npm", args, { stdio: ["ignore", "ignore", "inherit"] });
  if (status !== 0) fail("npm ci failed; its message is above.");
  say(`dependencies installed in ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
}

function finish([name, ...args]) {
  const local = join(root, "node_modules/.bin", name);
  const child = spawn(existsSync(local) ? local : name, args, { stdio: "inherit" });
  // Ctrl-C reaches the child by itself; it decides how to end.
  for (const signal of ["SIGINT", "SIGTERM"])
    process.on(signal, () => signal === "SIGTERM" && child.kill(signal));
  child.on("error", (error) => fail(error.message));
  child.on("exit", (code, signal) => process.exit(code ?? (signal ? 130 : 1)));
}

function run(name, args) {
  const { status } = spawnSync(name, args, { stdio: "inherit" });
  if (status !== 0) process.exit(status ?? 1);
}

function split(args) {
  const at = args.indexOf("--");
  return at < 0 ? [args, []] : [args.slice(0, at), args.slice(at + 1)];
}

function atLeast(a, b) {
  for (let i = 0; i < 3; i++) if (a[i] !== b[i]) return a[i] > b[i];
  return true;
}

function say(text) {
  process.stderr.write(`· ${text}\n`);
}

function fail(text) {
  process.stderr.write(`✖ ${text}\n`);
  process.exit(1);
}
