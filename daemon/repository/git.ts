import { simpleGit } from "simple-git";

/** Git refused; the message is what it printed. */
export class GitError extends Error {}

/** Longer than this a transfer is stuck. */
const stalledMs = 120_000;

/** What git needs of this machine's environment: where things are, whom to trust, how to get out. */
const keptVariables = [
  "PATH",
  "HOME",
  "SSL_CERT_FILE",
  "SSL_CERT_DIR",
  "GIT_SSL_CAINFO",
  "HTTPS_PROXY",
  "https_proxy",
  "NO_PROXY",
  "no_proxy",
];

/**
 * Runs host git in a folder that no agent can write. Nothing from outside is an argument but what names.ts
 * has validated; the token is in the environment of the one process, never on a command line. What it
 * returns rejects with GitError.
 */
export function gitIn(
  folder: string,
  token: string | null,
  signal?: AbortSignal,
): (args: string[]) => Promise<string> {
  return async (args) => {
    const variables = gitEnvironment(token);
    const git = simpleGit({
      baseDir: args[0] === "init" ? "/" : folder,
      timeout: { block: stalledMs },
      ...(signal ? { abort: signal } : {}),
      allowEnvironment: Object.keys(variables),
      // These are our own constants below, not somebody's input.
      unsafe: {
        allowUnsafeConfigEnvCount: true,
        allowUnsafeHooksPath: true,
        allowUnsafeCredentialHelper: true,
        allowUnsafeProtocolOverride: true,
      },
    }).env(variables);
    try {
      return await git.raw(args);
    } catch (error) {
      throw new GitError(error instanceof Error ? error.message.trim() : String(error));
    }
  };
}

/**
 * The environment of a git process of this machine: whom to trust and how to get out, and no hook, helper or
 * file of its own.
 */
export function gitEnvironment(token: string | null): Record<string, string> {
  const settings: [string, string][] = [
    ["core.hooksPath", "/dev/null"],
    ["credential.helper", ""],
    ["gc.auto", "0"],
    ["protocol.allow", "never"],
    ["protocol.http.allow", "always"],
    ["protocol.https.allow", "always"],
    ["protocol.file.allow", "always"],
  ];
  if (token) {
    const basic = Buffer.from(`x-access-token:${token}`).toString("base64");
    settings.push(["http.extraHeader", `Authorization: Basic ${basic}`]);
  }
  const numbered = settings.flatMap(([key, value], index) => [
    [`GIT_CONFIG_KEY_${index}`, key],
    [`GIT_CONFIG_VALUE_${index}`, value],
  ]);
  return {
    ...Object.fromEntries(
      keptVariables.map((name) => [name, process.env[name]]).filter(([, v]) => v),
    ),
    ...Object.fromEntries(numbered),
    GIT_CONFIG_COUNT: String(settings.length),
    GIT_TERMINAL_PROMPT: "0",
    LC_ALL: "C",
  };
}
