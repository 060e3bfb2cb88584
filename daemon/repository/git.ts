import { simpleGit } from "simple-git";

/** A git command failed; the message is what it printed. */
export class GitError extends Error {
  /**
   * `away`: the other side did not answer, or said nothing of what was asked. `refused`: it, or git here, said
   * no. `final`: what is there can never be used as it is, so that asking again changes nothing.
   */
  readonly kind: "away" | "refused" | "final";
  constructor(message: string, kind: GitError["kind"] = kindOf(message)) {
    super(message);
    this.kind = kind;
  }
}

/** What git and curl print when nothing is wrong but the way, or the other side for a while. */
const awayWords =
  /could not resolve|failed to connect|couldn't connect|connection (was )?(refused|reset|timed out)|timed? ?out|block timeout|error: (429|5\d\d)|HTTP (429|5\d\d)|empty reply|early EOF|unexpected disconnect|hung up|RPC failed|too slow|\bSSL\b|\bTLS\b|Internal Server Error|error in commit_refs|network is unreachable/i;

const corruptWords =
  /object file .* is empty|loose object .* is corrupt|object corrupt or missing|unable to (read|unpack|find) (tree|[0-9a-f]{40})|inflate: data stream error|(pack|index) file .* (is )?(corrupt|too small|does not match)|bad object refs\/|missing (blob|tree|commit)|did not send all necessary objects|not a git repository/i;

/** Whether objects of a repository here are broken, as after a power cut, by what git printed; not the remote's. */
export const isCorrupt = (text: string): boolean =>
  corruptWords.test(text.replace(/^remote:.*$/gm, ""));

/** Whether it was the token that was refused, by what git printed. */
export const isTokenRefused = (text: string): boolean =>
  /authentication failed|error: 401|HTTP 401|invalid (username|credentials)|could not read (username|password)/i.test(
    text,
  );

/** What says no, whatever else is printed around it. */
const refusedWords = /(error:|HTTP) 40[134]|not found|access denied|authentication failed/i;

/** What a message of git's says of asking again. */
function kindOf(message: string): GitError["kind"] {
  if (refusedWords.test(message)) return "refused";
  return awayWords.test(message) ? "away" : "refused";
}

/** So long without a byte a transfer is stuck, and so long without a word any other command. */
const silentMsMax = 120_000;
/** Commands that print little while bytes flow: curl watches those. */
const transfers = ["fetch", "push", "ls-remote"];

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
  silentMs = silentMsMax,
): (args: string[]) => Promise<string> {
  return async (args) => {
    const variables = gitEnvironment(token, silentMs);
    const isTransfer = transfers.includes(args[0] ?? "");
    const git = simpleGit({
      baseDir: args[0] === "init" ? "/" : folder,
      ...(isTransfer ? {} : { timeout: { block: silentMs } }),
      ...(signal ? { abort: signal } : {}),
      allowEnvironment: Object.keys(variables),
      // These are our own constants below, not somebody's input.
      unsafe: {
        allowUnsafeConfigEnvCount: true,
        allowUnsafeConfigPaths: true,
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
export function gitEnvironment(
  token: string | null,
  silentMs = silentMsMax,
): Record<string, string> {
  const settings: [string, string][] = [
    ["core.hooksPath", "/dev/null"],
    ["credential.helper", ""],
    ["gc.auto", "0"],
    ["protocol.allow", "never"],
    ["protocol.http.allow", "always"],
    ["protocol.https.allow", "always"],
    ["protocol.file.allow", "always"],
    ["http.lowSpeedLimit", "1"],
    ["http.lowSpeedTime", String(Math.ceil(silentMs / 1_000))],
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
