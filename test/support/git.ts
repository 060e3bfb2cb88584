import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** The environment of a git that knows nothing of this machine's settings, and commits as somebody. */
export const gitEnv = {
  ...process.env,
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_CONFIG_NOSYSTEM: "1",
  GIT_AUTHOR_NAME: "a",
  GIT_AUTHOR_EMAIL: "a@b",
  GIT_COMMITTER_NAME: "a",
  GIT_COMMITTER_EMAIL: "a@b",
  GIT_TERMINAL_PROMPT: "0",
};

/** Runs a program, never synchronously: the tests' servers are in this very process. */
export const run = promisify(execFile);
