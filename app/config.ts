import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** github.com allows 80 comments, issues and pull requests a minute. */
export const githubsWritesPerMinute = 70;

/** The app's validated settings. */
export type Config = {
  appId: number;
  privateKey: string;
  webhookSecret: string;
  /** GitHub's REST API, without a slash at the end. */
  apiUrl: string;
  /** GitHub's web pages, for links. */
  webUrl: string;
  host: string;
  port: number;
  /** Where people reach this app; links in comments and checks start with it. Null: where it listens. */
  publicUrl: string | null;
  databaseUrl: string;
  databaseAuthToken: string | undefined;
  /** How many comments and pull requests GitHub takes in a minute, with room; all other pace follows. */
  writesPerMinute: number;
  logLevel: string;
};

/** What is wrong with the settings: one sentence each. */
export class SettingsError extends Error {
  readonly problems: string[];
  constructor(problems: string[]) {
    super(problems.join("\n"));
    this.problems = problems;
  }
}

const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

/** Reads every setting before anything starts, and throws SettingsError with all problems at once. */
export function readConfig(env: NodeJS.ProcessEnv): Config {
  const problems: string[] = [];
  const need = (name: string, hint: string) => {
    const value = env[name]?.trim();
    if (!value) problems.push(`${name} is not set: ${hint}`);
    return value ?? "";
  };
  const appId = Number(need("APP_ID", "the number of your GitHub App, on its settings page."));
  if (env.APP_ID?.trim() && !(Number.isInteger(appId) && appId > 0))
    problems.push(`APP_ID is "${env.APP_ID}": it must be the App's number, such as 123456.`);
  const privateKey = readPrivateKey(env, problems);
  const webhookSecret = need(
    "WEBHOOK_SECRET",
    "the secret of the App's webhook; without it anyone could send deliveries.",
  );
  const port = Number(env.PORT?.trim() || 3000);
  if (!(Number.isInteger(port) && port >= 0 && port < 65_536))
    problems.push(`PORT is "${env.PORT}": it must be a number from 0 to 65535.`);
  const protocol = env.GHE_PROTOCOL?.trim() || "https";
  if (!["http", "https"].includes(protocol))
    problems.push(`GHE_PROTOCOL is "${protocol}": it must be http or https.`);
  const writesPerMinute = Number(env.TRIMO_WRITES_PER_MINUTE?.trim() || githubsWritesPerMinute);
  if (!(Number.isInteger(writesPerMinute) && writesPerMinute >= 1 && writesPerMinute <= 6_000))
    problems.push(
      `TRIMO_WRITES_PER_MINUTE is "${env.TRIMO_WRITES_PER_MINUTE}": it must be a number from 1 to 6000.`,
    );
  const logLevel = env.LOG_LEVEL?.trim() || "info";
  if (!logLevels.includes(logLevel))
    problems.push(`LOG_LEVEL is "${logLevel}": it must be one of ${logLevels.join(", ")}.`);
  const publicUrl = readUrl(env, "TRIMO_PUBLIC_URL", ["http:", "https:"], problems);
  const databaseUrl = readUrl(
    env,
    "TRIMO_DATABASE_URL",
    ["file:", "libsql:", "http:", "https:"],
    problems,
  );
  if (problems.length > 0) throw new SettingsError(problems);
  const host = env.HOST?.trim() || "127.0.0.1";
  const data = env.TRIMO_DATA?.trim() || join(homedir(), ".local/share/trimo");
  const github = env.GHE_HOST?.trim();
  return {
    appId,
    privateKey,
    webhookSecret,
    apiUrl: github ? `${protocol}://${github}/api/v3` : "https://api.github.com",
    webUrl: github ? `${protocol}://${github}` : "https://github.com",
    host,
    port,
    publicUrl: publicUrl?.replace(/\/$/, "") ?? null,
    databaseUrl: databaseUrl ?? `file:${join(data, "app.db")}`,
    databaseAuthToken: env.TRIMO_DATABASE_AUTH_TOKEN?.trim() || undefined,
    writesPerMinute,
    logLevel,
  };
}

/** The database alone, for commands that need no GitHub. */
export function readDatabaseUrl(env: NodeJS.ProcessEnv): { url: string; authToken?: string } {
  const data = env.TRIMO_DATA?.trim() || join(homedir(), ".local/share/trimo");
  return {
    url: env.TRIMO_DATABASE_URL?.trim() || `file:${join(data, "app.db")}`,
    authToken: env.TRIMO_DATABASE_AUTH_TOKEN?.trim() || undefined,
  };
}

function readPrivateKey(env: NodeJS.ProcessEnv, problems: string[]): string {
  const path = env.PRIVATE_KEY_PATH?.trim();
  let text = env.PRIVATE_KEY?.trim() ?? "";
  if (!text && !path) {
    problems.push("PRIVATE_KEY or PRIVATE_KEY_PATH is not set: the App's private key, in PEM.");
    return "";
  }
  if (!text && path) {
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      problems.push(`PRIVATE_KEY_PATH is "${path}", which cannot be read: ${String(error)}`);
      return "";
    }
  }
  const unescaped = text.includes("-----BEGIN")
    ? text.replaceAll("\\n", "\n")
    : Buffer.from(text, "base64").toString("utf8");
  try {
    createPrivateKey(unescaped);
    return unescaped;
  } catch {
    const name = env.PRIVATE_KEY?.trim() ? "PRIVATE_KEY" : "PRIVATE_KEY_PATH";
    problems.push(`${name} holds no private key in PEM: download one from the App's settings.`);
    return "";
  }
}

function readUrl(
  env: NodeJS.ProcessEnv,
  name: string,
  protocols: string[],
  problems: string[],
): string | undefined {
  const value = env[name]?.trim();
  if (!value) return undefined;
  if (URL.canParse(value) && protocols.includes(new URL(value).protocol)) return value;
  const kinds = protocols.map((kind) => `${kind}…`).join(", ");
  problems.push(`${name} is "${value}": it must be a URL that starts with ${kinds}`);
  return undefined;
}
