import { spawn } from "node:child_process";
import { existsSync, mkdirSync, openSync, statSync } from "node:fs";
import { Failed, write } from "./journal.ts";
import { ended, killGroup, tailBytes } from "./process.ts";
import { endOfFile, type Services } from "./services.ts";
import { stop } from "./stop.ts";
import { places, type Task } from "./task.ts";

/** A preboot that took longer is worth a line. */
const toldPrebootMs = 20;
/** Where the image says nothing; preboot has the helper `start-service` before it. */
const usualPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/** Said by what tries the network, where there is none yet. */
const offline =
  /name resolution|could not resolve|network is unreachable|EAI_AGAIN|ENETUNREACH|no such host/i;

/** Runs the image's preboot and waits until its services are ready. */
export async function bootServices(task: Task, services: Services) {
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
