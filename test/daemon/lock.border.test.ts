import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../app/protocol/clock.ts";
import { LockedError, lock } from "../../daemon/lock.ts";

const imports = `import { lock } from "${join(import.meta.dirname, "../../daemon/lock.ts")}"; import { systemClock } from "${join(import.meta.dirname, "../../app/protocol/clock.ts")}";`;
let folder: string;
const path = () => join(folder, "lock");
const written = () => JSON.parse(readFileSync(path(), "utf8"));
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "trimo-lock-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Another process that holds the lock until it is killed. */
async function other() {
  const program = `${imports} lock(process.argv[1], systemClock); console.log("held"); setInterval(() => {}, 1000);`;
  const args = ["--import", "tsx", "--input-type=module", "-e", program, folder];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  await new Promise((resolve) => child.stdout.once("data", resolve));
  return child;
}

test("is one living process's: another is told whose it is; one that was killed holds nothing", async () => {
  const child = await other();
  expect(() => lock(folder, systemClock)).toThrow(LockedError);
  expect(() => lock(folder, systemClock)).toThrow(`process ${child.pid}`);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
  const unlock = lock(folder, systemClock);
  expect(written().pid).toBe(process.pid);
  unlock();
  expect(() => readFileSync(path())).toThrow();
});

test("of two that start at once one has it", async () => {
  const program = `${imports} try { lock(process.argv[1], systemClock); console.log("held"); setTimeout(() => process.exit(), 3000); } catch { console.log("locked"); }`;
  // What a killed daemon has left, which each of them may take away.
  writeFileSync(path(), JSON.stringify({ pid: 1, startedAt: "x", boot: "before", namespace: "" }));
  const command = `for i in 1 2 3 4; do "${process.execPath}" --import tsx --input-type=module -e '${program}' ${folder} & done; wait`;
  const told = execFileSync("bash", ["-c", command], { encoding: "utf8" }).trim().split("\n");
  expect(told.toSorted()).toEqual(["held", "locked", "locked", "locked"]);
});

test("is not another program's that got the number of a killed daemon, nor of before a restart", () => {
  lock(folder, systemClock)();
  const unlock = lock(folder, systemClock);
  const mine = written();
  unlock();
  for (const changes of [
    { pid: process.ppid, startedAt: "1" },
    { pid: process.ppid, boot: "another" },
    { pid: process.pid, startedAt: "1" },
  ]) {
    writeFileSync(path(), JSON.stringify({ ...mine, ...changes }));
    lock(folder, systemClock)();
  }
  writeFileSync(path(), '{"pid": 12');
  lock(folder, systemClock)();
});

test("of a process that cannot be seen from here is good while it is touched", () => {
  const unlock = lock(folder, systemClock);
  const mine = written();
  unlock();
  for (const pid of [1, process.pid]) {
    writeFileSync(path(), JSON.stringify({ ...mine, pid, namespace: "pid:[1]" }));
    expect(() => lock(folder, systemClock)).toThrow(
      /in another container; if it is gone, start again in \d+ s/,
    );
  }
  const before = new Date(Date.now() - 61_000);
  utimesSync(path(), before, before);
  lock(folder, systemClock)();
});
