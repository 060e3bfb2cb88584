import { type ChildProcess, execFile, spawn } from "node:child_process";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import {
  containerDisk,
  memoryKills,
  processRefusals,
  watchDisk,
  watchProcesses,
} from "./limits.ts";
import { createServices, endOfFile, type Services } from "./services.ts";
import { type Cut, type Line, places, type Task } from "./task.ts";

// A run inside its container, as root but for the agent:
//
//   task on stdin ─▶ clone ∥ preboot ─▶ agent ─▶ commit leftovers ─▶ verify ─▶ push ─▶ end, wait
//
// Every step is written to a journal that only root can write; the daemon follows it. SIGTERM stops
// the agent and goes on with committing: stopping is not throwing away. When the daemon is away the
// steps that need it wait for it.

const agentId = 1000;
const gatewayPort = 3128;
/** How long the steps that need the daemon wait for it to come back. */
const daemonAwayMs = 30 * 60_000;
/** A clone or push that fails is tried again this often, with a pause. */
const gatewayTriesMax = 4;
const gatewayPauseMs = 500;
/** Between SIGTERM and SIGKILL for the agent. */
const graceMs = 1_500;
/** Processes that were refused, before that is taken for why an agent failed. */
const refusalsMin = 3;
/** After the end, until the container stops by itself if nobody removes it. */
const lingerMs = 30 * 60_000;
const tailBytes = 8_000;
/** Of one verify command's output. */
const logBytesMax = 64 * 2 ** 20;
/** Stands where output was left out. */
const cutMark = "\n…\n";
/** How long a pipe may stay open after all of its processes were ended. */
const drainMs = 2_000;
/** The files of the leftovers that GitHub would refuse, or that filled the disk, are left out. */
const leftoverKbMax = 95 * 1024;
const leftoverKbMaxOnFullDisk = 1024;
/** How often the limits are looked at, and the services. */
const lookEveryMs = 250;
/** One step of git as the agent's user; a trap in its .git must not hold the run. */
const gitMsMax = 10 * 60_000;

const promptFile = "/run/trimo/prompt";
const keyHeader = "x-trimo-key";
/** What taking the agent's memory out may take. */
const memoryMsMax = 2 * 60_000;

/** On the volume, so that a rescue knows a whole checkout from the half of one. */
const cloned = "/workspace/.git/trimo-cloned";

const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());
process.on("SIGINT", () => stop.abort());

async function main() {
  const task = await readTask();
  mkdirSync("/var/lib/trimo", { recursive: true, mode: 0o755 });
  writeFileSync(places.output, "", { flag: "a" });
  const deadline = Date.now() + task.timeMs;
  const services = createServices(places.services, write);
  let pushed = false;
  try {
    if (task.mode === "run") pushed = await run(task, deadline, services);
    else if (existsSync(cloned)) pushed = await commitAndPush(task, leftoverKbMax);
  } catch (error) {
    if (!(error instanceof Failed)) throw error;
    services.tellEnds();
    write({ type: "failed", code: error.code, detail: error.message });
  }
  services.close();
  write({ type: "end", stopped: stop.signal.aborted, pushed });
  await Promise.race([pause(lingerMs), new Promise((resolve) => process.on("SIGTERM", resolve))]);
  process.exit(0);
}

class Failed extends Error {
  readonly code: Extract<Line, { type: "failed" }>["code"];
  constructor(code: Extract<Line, { type: "failed" }>["code"], detail: string) {
    super(detail);
    this.code = code;
  }
}

async function run(task: Task, deadline: number, services: Services): Promise<boolean> {
  const disk = watchDisk(
    { bytesMax: task.diskBytes, reserveBytes: task.reserveBytes },
    containerDisk(Date.now()),
    Date.now,
  );
  prepare(task);
  write({ type: "stage", stage: "cloning" });
  const preboot = bootServices(task, services);
  // Waited for below; until then a failure must not end the process.
  preboot.catch(() => {});
  await clone(task);
  write({ type: "stage", stage: "preboot" });
  await preboot;
  if (stop.signal.aborted) return false;
  write({ type: "stage", stage: "agent" });
  services.watch(lookEveryMs);
  const command = await readied(task);
  const { finished, cut } = await runAgent(task, command, deadline, disk);
  write({ type: "stage", stage: "committing" });
  const pushed = await commitAndPush(
    task,
    cut === "disk" ? leftoverKbMaxOnFullDisk : leftoverKbMax,
  );
  // Git ran with the agent's own configuration, which may have started something.
  await endAgent();
  await takeMemory(task);
  if (!finished) services.tellEnds();
  if (stop.signal.aborted || !finished) return pushed;
  if (task.verify.length > 0) write({ type: "stage", stage: "verifying" });
  for (const [index, command] of task.verify.entries()) {
    if (stop.signal.aborted) break;
    if (!(await verify(index, command, deadline, disk))) services.tellEnds();
  }
  return pushed;
}

async function readTask(): Promise<Task> {
  let text = "";
  for await (const chunk of process.stdin) text += chunk;
  // A daemon that died before it had said all leaves half a line: then there is nothing to do.
  return JSON.parse(text);
}

/** What every step below starts; an image that lacks one is told of it by name. */
const needed = ["/bin/bash", "/usr/bin/git", "/usr/bin/setpriv", "/usr/bin/find", "/usr/bin/du"];

function prepare(task: Task) {
  const missing = needed.filter((path) => !existsSync(path));
  if (missing.length > 0)
    throw new Failed("image_broken", `The image has no ${missing.join(", no ")}.`);
  const users = readFileSync("/etc/passwd", "utf8");
  if (!new RegExp(`^agent:[^:]*:${agentId}:${agentId}:`, "m").test(users))
    throw new Failed("image_broken", `The image has no user agent with uid and gid ${agentId}.`);
  chownSync(places.workspace, agentId, agentId);
  mkdirSync("/run/trimo", { recursive: true });
  writeFileSync(promptFile, task.prompt, { mode: 0o644 });
  // For a driver that finds only then that the agent does not know its session any more.
  if (task.fresh) writeFileSync(`${promptFile}-fresh`, task.fresh.prompt, { mode: 0o644 });
  const quoted = (value: string) => `'${value.replaceAll("'", `'\\''`)}'`;
  const lines = Object.entries(task.env).map(([name, value]) => `export ${name}=${quoted(value)}`);
  writeFileSync("/etc/profile.d/trimo-run.sh", `${lines.join("\n")}\n`, { mode: 0o644 });
}

async function clone(task: Task) {
  const { name, email } = task.author;
  const command = [
    ...git,
    "clone",
    "--quiet",
    "--no-tags",
    "--single-branch",
    `--branch=${task.branch}`,
    `--config=user.name=${name}`,
    `--config=user.email=${email}`,
    places.remote,
    places.workspace,
  ];
  // Stopped, there is nothing to keep yet: git is ended at once.
  const stopped = () => void endAgent();
  stop.signal.addEventListener("abort", stopped);
  const result = await throughGateway(() => asAgent(command), stop.signal);
  stop.signal.removeEventListener("abort", stopped);
  if (stop.signal.aborted) return;
  if (result.exit !== 0) throw new Failed("clone_failed", result.output);
  writeFileSync(cloned, "");
}

/** Again when it fails: the daemon may have gone in the middle, and be back in a moment. */
async function throughGateway(
  work: () => Promise<{ exit: number; output: string }>,
  given?: AbortSignal,
) {
  for (let tries = 1; ; tries++) {
    await gatewayIsThere(given);
    if (given?.aborted) return { exit: 1, output: "stopped" };
    const result = await work();
    if (result.exit === 0 || tries >= gatewayTriesMax) return result;
    await pause(gatewayPauseMs);
  }
}

/** A preboot that took longer is worth a line. */
const toldPrebootMs = 20;
/** Where the image says nothing; preboot has the helper `start-service` before it. */
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Said by what tries the network, where there is none yet. */
const offline =
  /name resolution|could not resolve|network is unreachable|EAI_AGAIN|ENETUNREACH|no such host/i;

async function bootServices(task: Task, services: Services) {
  const script = "/opt/trimo/preboot.sh";
  if (!existsSync(script) || stop.signal.aborted) return;
  if ((statSync(script).mode & 0o111) === 0)
    throw new Failed(
      "preboot_failed",
      `${script} is not executable: chmod +x it in the Dockerfile`,
    );
  const log = openSync(places.preboot, "a", 0o644);
  mkdirSync(places.services, { recursive: true, mode: 0o755 });
  const env = { ...process.env, PATH: `/opt/trimo/sbin:${process.env.PATH ?? usualPath}` };
  const startedAt = Date.now();
  const child = spawn(script, { stdio: ["ignore", log, log], cwd: "/", detached: true, env });
  const stopped = () => killGroup(child);
  stop.signal.addEventListener("abort", stopped);
  const end = await ended(child, task.prebootMs);
  stop.signal.removeEventListener("abort", stopped);
  services.tellReady();
  if (stop.signal.aborted) return;
  if (end.exit === 0) {
    const tookMs = Date.now() - startedAt;
    if (tookMs >= toldPrebootMs)
      write({ type: "notice", text: `services are up after ${(tookMs / 1000).toFixed(1)} s` });
    return;
  }
  const how = end.late
    ? `preboot.sh did not end within ${task.prebootMs / 1000} s`
    : `preboot.sh ended with ${end.error ?? (end.exit === null ? end.signal : `exit ${end.exit}`)}`;
  if (end.late) killGroup(child);
  const said = endOfFile(places.preboot, tailBytes);
  const hint = offline.test(said)
    ? "\nThere is no network while services start: what preboot needs is fetched in the Dockerfile."
    : "";
  throw new Failed("preboot_failed", `${said}\n${how}${hint}`.trim());
}

const home = "/home/agent";
/** What tar says when it was asked for more than there is. */
const expected = /Not found in archive|Exiting with failure status/;

/** Its files and memory in place; the command line for what came of that. */
async function readied(task: Task): Promise<string[]> {
  for (const { path, text } of task.files) {
    const script = 'umask 077; mkdir -p "$(dirname "$1")" && cat > "$1"';
    const made = await asAgent(["/bin/sh", "-c", script, "trimo", join(home, path)], text);
    if (made.exit !== 0) write({ type: "notice", text: `${path} could not be written` });
  }
  if (!task.memory.restore) return task.command;
  const why = await restoreMemory(task.memory);
  write({ type: "memory", restored: why === null, why: why ?? "" });
  if (why === null || !task.fresh) return task.command;
  writeFileSync(promptFile, task.fresh.prompt, { mode: 0o644 });
  return task.fresh.command;
}

/** As the agent's user, and only what belongs to its memory. Null when it is there, else why not. */
async function restoreMemory({ key, paths }: Task["memory"]): Promise<string | null> {
  await gatewayIsThere(stop.signal);
  return await new Promise((resolve) => {
    const options = {
      host: "127.0.0.1",
      port: gatewayPort,
      path: "/memory",
      headers: { [keyHeader]: key },
    };
    const asked = request(options, (response) => {
      if (response.statusCode !== 200) {
        response.resume();
        return resolve("the machine has it no more");
      }
      const [file = "", ...flags] = asUser;
      const tar = ["/bin/tar", "-x", "-C", home, "-f", "-", "--no-same-owner"];
      const child = spawn(file, [...flags, ...tar, "--", ...paths], {
        stdio: ["pipe", "ignore", "pipe"],
      });
      let said = "";
      child.stderr.on("data", (chunk) => {
        said = `${said}${chunk}`.slice(-tailBytes);
      });
      child.stdin.on("error", () => {});
      response.on("error", () => child.kill("SIGKILL"));
      response.pipe(child.stdin);
      child.on("error", () => resolve("tar could not be started"));
      child.on("close", (exit) => {
        // That some of the names are not in it is as it should be.
        const wrong = said.split("\n").filter((line) => line && !expected.test(line));
        const whole = exit === 0 || (exit === 2 && wrong.length === 0);
        resolve(whole ? null : "its archive could not be unpacked");
      });
    });
    asked.on("error", (error) => resolve(error.message));
    asked.end();
  });
}

/** What the agent remembers by, streamed out; that it cannot be kept never fails a run. */
async function takeMemory({ memory }: Task) {
  const here = memory.paths.filter((path) => existsSync(join(home, path)));
  if (here.length === 0) return;
  await gatewayIsThere();
  const problem = await new Promise<string | null>((resolve) => {
    const [file = "", ...flags] = asUser;
    const tar = ["/bin/tar", "-c", "-C", home, "-f", "-", "--", ...here];
    const child = spawn(file, [...flags, ...tar], { stdio: ["ignore", "pipe", "ignore"] });
    const timer = setTimeout(() => child.kill("SIGKILL"), memoryMsMax);
    const headers = { [keyHeader]: memory.key, "content-type": "application/x-tar" };
    const sent = request(
      { host: "127.0.0.1", port: gatewayPort, path: "/memory", method: "PUT", headers },
      (response) => {
        response.resume();
        resolve(response.statusCode === 204 ? null : "it is too large to be kept");
      },
    );
    sent.on("error", (error) => resolve(error.message));
    child.on("error", (error) => resolve(error.message));
    child.stdout.pipe(sent, { end: false });
    child.on("close", (exit) => {
      clearTimeout(timer);
      // Half of it must not be taken for all. 1: a file changed while it was read.
      if (exit === 0 || exit === 1) sent.end();
      else sent.destroy(new Error("it could not be read"));
    });
  });
  if (problem) write({ type: "notice", text: `the agent's session is not kept: ${problem}` });
}

/** Whether it ended by itself and well; only then is there something to verify. */
async function runAgent(
  task: Task,
  command: string[],
  deadline: number,
  disk: ReturnType<typeof watchDisk>,
): Promise<{ finished: boolean; cut: Cut | null }> {
  const child = spawn(...loginShell('cd /workspace && exec "$@"', command), {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const output = capture(child, places.output, task.outputBytesMax);
  const killsBefore = memoryKills();
  const refusalsBefore = processRefusals();
  const crowded = watchProcesses();
  let cut: Cut | null = null;
  const watch = setInterval(() => {
    disk.look();
    if (!cut && output.full()) cut = "output";
    if (!cut && disk.full()) cut = "disk";
    if (!cut && crowded()) cut = "pids";
    if (!cut && Date.now() > deadline) cut = "time";
    // Again while it lives: between its start and its change of user nobody would have found it.
    if (cut || stop.signal.aborted) void endAgent();
  }, lookEveryMs);
  const stopped = () => void endAgent();
  stop.signal.addEventListener("abort", stopped);
  if (stop.signal.aborted) stopped();
  const end = await ended(child, null);
  clearInterval(watch);
  stop.signal.removeEventListener("abort", stopped);
  if (end.error) appendFileSync(places.output, `${end.error}\n`);
  // What it left running must not touch the tree while it is committed and verified.
  await endAgent();
  await output.closed();
  if (!cut && end.exit !== 0 && memoryKills() > killsBefore) cut = "memory";
  // One refusal is a build that tried again; many are why it failed.
  if (!cut && end.exit !== 0 && processRefusals() - refusalsBefore >= refusalsMin) cut = "pids";
  write({ type: "agent", exit: end.exit, signal: end.signal, cut });
  return { finished: end.exit === 0 && !cut, cut };
}

/** Whether it passed, or was ended because the run was. */
async function verify(
  index: number,
  command: string,
  deadline: number,
  disk: ReturnType<typeof watchDisk>,
): Promise<boolean> {
  const startedAt = Date.now();
  // Not a login shell: the agent may have left a ~/.bash_profile that says all is well.
  const child = spawn(...agentShell('. /etc/profile; cd /workspace && eval "$1"', [command]), {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  const log = capture(child, places.verify(index), logBytesMax);
  const watch = setInterval(() => {
    disk.look();
    if (disk.full() || stop.signal.aborted) void endAgent();
  }, lookEveryMs);
  const stopped = () => void endAgent();
  stop.signal.addEventListener("abort", stopped);
  const end = await ended(child, Math.max(1_000, deadline - Date.now()));
  clearInterval(watch);
  stop.signal.removeEventListener("abort", stopped);
  await endAgent();
  await log.closed();
  if (end.late) appendFileSync(places.verify(index), "the run's time was up\n");
  if (disk.full()) appendFileSync(places.verify(index), "the run's share of the disk was full\n");
  const exit = end.exit ?? (end.late ? 124 : 137);
  // Ended because the run was: that says nothing about the work.
  if (stop.signal.aborted && exit !== 0) return true;
  write({ type: "receipt", index, command, exit, durationMs: Date.now() - startedAt });
  return exit === 0;
}

/**
 * Pushes what the agent committed, and commits what it left. The second step works in a repository
 * of its own, on top of what the gate has: a stale lock, a rewritten history or a deleted .git of the
 * agent's loses nothing.
 */
async function commitAndPush(task: Task, fileKbMax: number): Promise<boolean> {
  await gatewayIsThere();
  const push = [...git, "-C", places.workspace, "push", "--quiet", places.remote];
  // Twice at most: where HEAD cannot be pushed, the second step keeps the tree all the same.
  for (let tries = 0; tries < 2; tries++)
    if ((await asAgent([...push, `HEAD:refs/heads/${task.branch}`])).exit === 0) break;
  const script = `
set -e
own=$(mktemp -d)
g() { /usr/bin/git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c commit.gpgsign=false -c core.autocrlf=false "$@"; }
g init --quiet --bare "$own"
export GIT_DIR=$own GIT_WORK_TREE=/workspace GIT_INDEX_FILE=$own/index.trimo
[ -d /workspace/.git/objects ] && echo /workspace/.git/objects > "$GIT_DIR/objects/info/alternates"
g fetch --quiet --no-tags --depth=1 "$1" "refs/heads/$2"
parent=$(g rev-parse FETCH_HEAD)
g read-tree "$parent"
cd /workspace
# What is larger than GitHub takes is left out, and said.
large() { find . -xdev -path ./.git -prune -o -type f -size "+$size" -printf "$1" 2>/dev/null || true; }
size=$6k
{ printf '.\\0'; large ':(exclude,literal)%P\\0'; } > "$own/paths"
code=0
g add -A --ignore-errors --pathspec-from-file="$own/paths" --pathspec-file-nul || code=$?
# 128: git takes no such list, as of files in a submodule. Then all of it, rather than nothing.
if [ "$code" = 128 ]; then g add -A --ignore-errors . || true
else
  large '%P\\0' > "$own/large"
  if [ -s "$own/large" ]; then
    # Ignored ones would not have been committed anyway. A name is one line, whatever is in it.
    { g check-ignore -z --stdin < "$own/large" || true; } | sort -z > "$own/ignored"
    sort -z "$own/large" | comm -z -23 - "$own/ignored" | tr '\\001-\\037\\177' '?' | tr '\\0' '\\n' | head -n 20 | sed 's/^/left out /'
  fi
fi
tree=$(g write-tree)
if [ "$tree" != "$(g rev-parse "$parent^{tree}")" ]; then
  commit=$(GIT_AUTHOR_NAME="$4" GIT_AUTHOR_EMAIL="$5" GIT_COMMITTER_NAME="$4" GIT_COMMITTER_EMAIL="$5" g commit-tree "$tree" -p "$parent" -m "$3")
  g push --quiet "$1" "$commit:refs/heads/$2"
  echo committed
fi
rm -rf "$GIT_DIR"
`;
  const { name, email } = task.author;
  const message = stop.signal.aborted ? task.stoppedMessage : task.leftoverMessage;
  const args = [places.remote, task.branch, message, name, email, String(fileKbMax)];
  const command = ["/bin/bash", "-c", script, "trimo-commit", ...args];
  const result = await throughGateway(() => asAgent(command));
  if (result.exit !== 0) throw new Failed("push_refused", result.output);
  if (/^committed$/m.test(result.output))
    write({ type: "notice", text: "committed what the agent had left uncommitted" });
  const large = [...result.output.matchAll(/^left out (.+)$/gm)].map((match) => match[1]);
  const limit = `${Math.round(fileKbMax / 1024)} MB`;
  if (large.length > 0)
    write({
      type: "notice",
      text: `not committed, over ${limit}: ${large.join(", ")}`.slice(0, 1_000),
    });
  return true;
}

const git = [
  "/usr/bin/git",
  "-c",
  "core.hooksPath=/dev/null",
  "-c",
  "core.fsmonitor=false",
  "-c",
  "http.proxy=",
];

/** As the agent's user: no capability, no way to gain one. */
const asUser = [
  "/usr/bin/setpriv",
  "--reuid=agent",
  "--regid=agent",
  "--init-groups",
  "--reset-env",
  "--no-new-privs",
  "--inh-caps=-all",
  "--ambient-caps=-all",
  "--bounding-set=-all",
];

/** A login shell of the agent's, first in line when memory runs out. */
function loginShell(script: string, args: string[]): [string, string[]] {
  return shell(["-l"], script, args);
}

/** A shell of the agent's user that reads nothing of its home. */
function agentShell(script: string, args: string[]): [string, string[]] {
  return shell(["--noprofile", "--norc"], script, args);
}

function shell(options: string[], script: string, args: string[]): [string, string[]] {
  const [command = "", ...flags] = asUser;
  const first = `echo 800 > /proc/self/oom_score_adj 2>/dev/null; ${script}`;
  return [command, [...flags, "/bin/bash", ...options, "-c", first, "trimo", ...args]];
}

/**
 * Copies what a process prints to a file, up to a limit, and the end of what comes after it. By a
 * pipe: with the file itself in hand it could make it any size.
 */
function capture(child: ChildProcess, path: string, bytesMax: number) {
  appendFileSync(path, "", { mode: 0o644 });
  let bytes = 0;
  let after = Buffer.alloc(0);
  const take = (chunk: Buffer) => {
    const room = Math.max(0, bytesMax - bytes);
    if (room > 0) appendFileSync(path, chunk.subarray(0, room));
    if (chunk.length > room)
      after = Buffer.concat([after, chunk.subarray(room)]).subarray(-tailBytes);
    bytes += chunk.length;
  };
  child.stdout?.on("data", take);
  child.stderr?.on("data", take);
  const closed = new Promise<void>((resolve) => child.once("close", () => resolve()));
  return {
    full: () => bytes > bytesMax,
    /** All of it is in the file; a process that cannot be ended is not waited for. */
    async closed() {
      await Promise.race([closed, pause(drainMs)]);
      if (after.length > 0) appendFileSync(path, Buffer.concat([Buffer.from(cutMark), after]));
    },
  };
}

function asAgent(command: string[], input = ""): Promise<{ exit: number; output: string }> {
  const [file = "", ...flags] = asUser;
  return new Promise((resolve) => {
    const child = execFile(
      file,
      [...flags, ...command],
      { cwd: "/", maxBuffer: 1024 * 1024, timeout: gitMsMax, killSignal: "SIGKILL" },
      (error, stdout, stderr) => {
        const exit = error ? (typeof error.code === "number" ? error.code : 1) : 0;
        resolve({ exit, output: `${stdout}${stderr}`.trim().slice(-tailBytes) });
      },
    );
    child.stdin?.on("error", () => {});
    child.stdin?.end(input);
  });
}

type End = { exit: number | null; signal: string | null; late: boolean; error: string | null };

function ended(child: ChildProcess, limitMs: number | null): Promise<End> {
  return new Promise((resolve) => {
    const timer = limitMs === null ? null : setTimeout(() => finish(null, null, true), limitMs);
    child.on("error", (error) => finish(127, null, false, error.message));
    child.on("exit", (exit, signal) => finish(exit, signal, false));
    function finish(exit: number | null, signal: string | null, late: boolean, error?: string) {
      if (timer) clearTimeout(timer);
      resolve({ exit, signal, late, error: error ?? null });
    }
  });
}

function killGroup(child: ChildProcess) {
  try {
    if (child.pid) process.kill(-child.pid, "SIGKILL");
  } catch {
    // It ended by itself meanwhile.
  }
}

let ending: Promise<void> | null = null;

/**
 * Every process of the agent's user: asked to end, then made to. One at a time, so that none is still
 * at it when the next step starts a process of that user.
 */
function endAgent(): Promise<void> {
  ending ??= endProcesses().finally(() => {
    ending = null;
  });
  return ending;
}

async function endProcesses() {
  signalAll("SIGTERM");
  const until = Date.now() + graceMs;
  while (agentProcesses().length > 0 && Date.now() < until) await pause(20);
  // A fork bomb makes new ones while the old are killed: again until none is left.
  for (let i = 0; i < 200 && agentProcesses().length > 0; i++) {
    signalAll("SIGKILL");
    await pause(5);
  }
}

function signalAll(signal: NodeJS.Signals) {
  for (const pid of agentProcesses()) {
    try {
      process.kill(pid, signal);
    } catch {
      // It ended by itself meanwhile.
    }
  }
}

function agentProcesses(): number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      const status = readFileSync(`/proc/${name}/status`, "utf8");
      const zombie = /^State:\s+Z/m.test(status);
      return !zombie && new RegExp(`^Uid:\\s+${agentId}\\s`, "m").test(status)
        ? [Number(name)]
        : [];
    } catch {
      return [];
    }
  });
}

async function gatewayIsThere(given?: AbortSignal) {
  const until = Date.now() + daemonAwayMs;
  while (Date.now() < until && !given?.aborted && !(await answers())) {
    if (stop.signal.aborted && Date.now() > until - daemonAwayMs + 10_000) return;
    await pause(4);
  }
}

function answers(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(gatewayPort, "127.0.0.1");
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}

type WithoutTime<T> = T extends unknown ? Omit<T, "at"> : never;
function write(line: WithoutTime<Line>) {
  const fresh = !existsSync(places.journal);
  appendFileSync(places.journal, `${JSON.stringify({ at: Date.now(), ...line })}\n`);
  if (fresh) chmodSync(places.journal, 0o644);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

await main();
