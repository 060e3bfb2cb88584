import { execFileSync, spawn, spawnSync } from "node:child_process";
import { existsSync, openSync, readFileSync, rmSync } from "node:fs";
import { connectDocker } from "../daemon/docker/docker-engine.ts";
import type { Engine } from "../daemon/docker/engine.ts";
import { baseImage, buildBase, isBaseCurrent } from "../daemon/images/base.ts";

// Finds a Docker Engine, or installs and starts one on Debian and Ubuntu as root; builds the base
// image when it is missing or older than its sources. Says what it does, on stderr.

const startMsMax = 30_000;
const log = "/var/log/trimo-dockerd.log";

await main();

async function main() {
  const engine = connectDocker();
  await findEngine(engine);
  if (!process.argv.includes("--image") || (await isBaseCurrent(engine))) return;
  say(`building ${baseImage}, once`);
  try {
    const tookMs = await buildBase(engine, (line) => {
      if (!line.startsWith("Step ")) say(`  ${line}`);
    });
    say(`${baseImage} built in ${(tookMs / 1000).toFixed(1)} s`);
  } catch (error) {
    fail(`${baseImage} could not be built`, error instanceof Error ? error.message : String(error));
  }
}

async function findEngine(engine: Engine) {
  if (await answers(engine)) return;
  if (process.env.DOCKER_HOST)
    fail("No Docker Engine answers", `at DOCKER_HOST=${process.env.DOCKER_HOST}`);
  if (!isDebian() || process.getuid?.() !== 0)
    fail(
      "No Docker Engine answers at /var/run/docker.sock",
      "Trimo runs each agent in a container of its own.\n  Start Docker Desktop, or on Debian/Ubuntu:  sudo apt-get install docker.io && sudo systemctl start docker",
    );
  if (!has("dockerd")) {
    say("installing Docker Engine (docker.io, iptables, debootstrap)");
    apt(["update", "-qq"]);
    apt([
      "install",
      "-qq",
      "-y",
      "--no-install-recommends",
      "docker.io",
      "iptables",
      "debootstrap",
    ]);
  }
  say(`starting Docker Engine; it stays up, its log is ${log}`);
  if (existsSync("/run/systemd/system")) spawnSync("systemctl", ["start", "docker"]);
  else {
    forgetDeadEngine();
    const out = openSync(log, "a");
    spawn("dockerd", [], { detached: true, stdio: ["ignore", out, out] }).unref();
  }
  const until = Date.now() + startMsMax;
  while (!(await answers(engine))) {
    if (Date.now() > until) fail("Docker Engine did not start", `the end of ${log}:\n${tail()}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** An engine that was killed leaves its number, which may be another program's by now. */
function forgetDeadEngine() {
  for (const path of ["/var/run/docker.pid", "/var/run/docker/containerd/containerd.pid"]) {
    if (!existsSync(path)) continue;
    const command = `/proc/${readFileSync(path, "utf8").trim()}/cmdline`;
    const alive = existsSync(command) && /dockerd|containerd/.test(readFileSync(command, "utf8"));
    if (!alive) rmSync(path, { force: true });
  }
}

async function answers(engine: Engine): Promise<boolean> {
  return await engine.ping().then(
    () => true,
    () => false,
  );
}

function isDebian(): boolean {
  const release = existsSync("/etc/os-release") ? readFileSync("/etc/os-release", "utf8") : "";
  return /^ID(_LIKE)?=.*(debian|ubuntu)/m.test(release);
}

function has(command: string): boolean {
  return spawnSync("sh", ["-c", `PATH=$PATH:/usr/sbin:/sbin command -v ${command}`]).status === 0;
}

function apt(args: string[]) {
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
    execFileSync("apt-get", args, { env, stdio: ["ignore", "ignore", "pipe"] });
  } catch (error) {
    fail(`apt-get ${args[0]} failed`, String((error as { stderr?: Buffer }).stderr ?? error));
  }
}

function tail(): string {
  return existsSync(log) ? readFileSync(log, "utf8").split("\n").slice(-12).join("\n") : "(empty)";
}

function say(text: string) {
  process.stderr.write(`· ${text}\n`);
}

function fail(what: string, why: string): never {
  process.stderr.write(`✖ ${what}\n  ${why}\n`);
  process.exit(1);
}
