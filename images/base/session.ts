import { spawn } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import { gatewayIsThere, gatewayPort } from "./gateway.ts";
import { write } from "./journal.ts";
import { tailBytes } from "./process.ts";
import { stop } from "./stop.ts";
import type { Task } from "./task.ts";
import { asAgent, asUser, home } from "./user.ts";

export const promptFile = "/run/trimo/prompt";
const keyHeader = "x-trimo-key";
/** How long taking the agent's session out may take, in milliseconds. */
const sessionMsMax = 2 * 60_000;

/** What tar says when it was asked for more than there is. */
const expected = /Not found in archive|Exiting with failure status/;

/** Puts the agent's files and session in place, and gives the command line for what came of that. */
export async function readied(task: Task): Promise<string[]> {
  for (const { path, text } of task.files) {
    const script = 'umask 077; mkdir -p "$(dirname "$1")" && cat > "$1"';
    const made = await asAgent(["/bin/sh", "-c", script, "trimo", join(home, path)], text);
    if (made.exit !== 0) write({ type: "notice", text: `${path} could not be written` });
  }
  if (!task.session.restore) return task.command;
  const why = await restoreSession(task);
  write({ type: "session", restored: why === null, why: why ?? "" });
  if (why === null || !task.fresh) return task.command;
  writeFileSync(promptFile, task.fresh.prompt, { mode: 0o644 });
  return task.fresh.command;
}

/** As the agent's user, and only what belongs to its session. Null when it is there, else why not. */
async function restoreSession({ session, awayMs }: Task): Promise<string | null> {
  const { key, paths } = session;
  await gatewayIsThere(awayMs, stop.signal);
  return await new Promise((resolve) => {
    const options = {
      host: "127.0.0.1",
      port: gatewayPort,
      path: "/session",
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
      // A pipe whose reader has ended: its exit tells why.
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

/** Streams the agent's session files out; that they cannot be kept never fails a run. */
export async function takeSession({ session, awayMs }: Task) {
  const here = session.paths.filter((path) => existsSync(join(home, path)));
  if (here.length === 0) return;
  await gatewayIsThere(awayMs);
  const problem = await new Promise<string | null>((resolve) => {
    const [file = "", ...flags] = asUser;
    const tar = ["/bin/tar", "-c", "-C", home, "-f", "-", "--", ...here];
    const child = spawn(file, [...flags, ...tar], { stdio: ["ignore", "pipe", "ignore"] });
    const timer = setTimeout(() => child.kill("SIGKILL"), sessionMsMax);
    const headers = { [keyHeader]: session.key, "content-type": "application/x-tar" };
    const sent = request(
      { host: "127.0.0.1", port: gatewayPort, path: "/session", method: "PUT", headers },
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
