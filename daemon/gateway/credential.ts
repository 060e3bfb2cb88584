import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { promisify } from "node:util";
import type { Clock } from "../../app/protocol/clock.ts";

const run = promisify(execFile);

/** How long a command that prints a key may take, and how long its word is taken. */
const commandMsMax = 30_000;
const freshMs = 10 * 60_000;
const bytesMax = 64 * 1024;

/** There is no key where daemon.yml says there is one. */
export class CredentialError extends Error {}

/** A model's key: where it is found is in daemon.yml, what it is never leaves the daemon. */
export type Credential = {
  /** The key; null: the server wants none. Throws `CredentialError`. */
  read(): Promise<string | null>;
  /** The service has refused this one: true when there is another by now. */
  refused(used: string): Promise<boolean>;
};

/**
 * A key that is read where daemon.yml says, `env:NAME`, `file:PATH` or `command:…`, and kept for a while.
 * `heard` is told every key, so that it can be masked.
 */
export function createCredential(
  from: string | undefined,
  env: NodeJS.ProcessEnv,
  clock: Clock,
  heard: (key: string) => void,
): Credential {
  if (from === undefined) return { read: async () => null, refused: async () => false };
  let known: { key: string; at: number } | null = null;
  let asking: Promise<string> | null = null;
  const askNow = async () => {
    const key = (await fetchKey(from, env)).trim();
    if (!key) throw new CredentialError(`${nameOf(from)} is empty`);
    // It goes into a header: a line more would be another one.
    if (!/^[\x21-\x7e]+$/.test(key))
      throw new CredentialError(`${nameOf(from)} holds more than a key: it must be one word`);
    heard(key);
    known = { key, at: clock.now() };
    return key;
  };
  // Who asks meanwhile gets the same answer: a command is run once.
  const ask = () => {
    asking ??= askNow().finally(() => {
      asking = null;
    });
    return asking;
  };
  return {
    async read() {
      if (known && clock.now() - known.at < freshMs) return known.key;
      // That it cannot be found again, for a moment, does not make the one that is known a bad one.
      return await ask().catch((error) => {
        if (known) return known.key;
        throw error;
      });
    },
    async refused(used) {
      if (known && known.key !== used) return true;
      return (await ask()) !== used;
    },
  };
}

async function fetchKey(from: string, env: NodeJS.ProcessEnv): Promise<string> {
  const [kind = ""] = from.split(":", 1);
  const rest = from.slice(kind.length + 1).trim();
  if (kind === "env") {
    const value = env[rest];
    if (value === undefined)
      throw new CredentialError(`the daemon has no ${rest} in its environment`);
    return value;
  }
  if (kind === "file")
    return await readFile(homePath(rest), "utf8").catch((error: NodeJS.ErrnoException) => {
      throw new CredentialError(`${rest} cannot be read: ${error.code ?? "error"}`);
    });
  const options = { timeout: commandMsMax, maxBuffer: bytesMax, env };
  const { stdout } = await run("/bin/sh", ["-c", rest], options).catch((error) => {
    // Neither the command nor what it printed: both may hold what is not to be told.
    const how = error.killed ? "did not end in time" : `ended with exit ${error.code}`;
    throw new CredentialError(`the command for the key ${how}`);
  });
  return stdout;
}

/** Where it is looked for, without anything of a command. */
const nameOf = (from: string): string =>
  from.startsWith("command:") ? "what the command printed" : from;

/** The path with `~/` as this user's home. */
export const homePath = (path: string): string =>
  path.startsWith("~/") ? `${homedir()}${path.slice(1)}` : path;

/** Whether a key is a token of `claude setup-token`, which is sent in another way than an API key. */
export const isSubscription = (key: string | null): boolean =>
  key?.startsWith("sk-ant-oat") ?? false;
