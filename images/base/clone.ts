import { writeFileSync } from "node:fs";
import { throughGateway } from "./gateway.ts";
import { Failed } from "./journal.ts";
import { stop } from "./stop.ts";
import { places, type Task } from "./task.ts";
import { asAgent, endAgent } from "./user.ts";

/** On the volume, so that a rescue knows a whole checkout from the half of one. */
export const cloned = "/workspace/.git/trimo-cloned";

/** Clones the run's branch from the gate into /workspace, as the agent's user. */
export async function clone(task: Task) {
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
  const result = await throughGateway(task.awayMs, () => asAgent(command), {
    given: stop.signal,
  });
  stop.signal.removeEventListener("abort", stopped);
  if (stop.signal.aborted) return;
  if (result.exit !== 0) throw new Failed("clone_failed", result.output);
  writeFileSync(cloned, "");
}

export const git = [
  "/usr/bin/git",
  "-c",
  "core.hooksPath=/dev/null",
  "-c",
  "core.fsmonitor=false",
  "-c",
  "http.proxy=",
];
