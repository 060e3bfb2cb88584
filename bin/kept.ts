import { pino } from "pino";
import { dataFolder, type Options, readConfig } from "../daemon/config.ts";
import { fileDisk } from "../daemon/disk.ts";
import { baseImage } from "../daemon/images/base.ts";
import { GitRepositories } from "../daemon/repository/git-repositories.ts";
import { type Kept, readKept } from "../daemon/run/kept.ts";
import { pushKept } from "../daemon/run/push-kept.ts";
import { connectServer } from "../daemon/server/client.ts";
import { print } from "./output.ts";
import { settingsOrExit } from "./settings.ts";

type Flags = Options & { json?: boolean; push?: boolean };

/** `trimo kept`: what runs left on this machine that is nowhere else, and how to get it; `--push` pushes it. */
export async function runKept(flags: Flags) {
  if (flags.push) return await push(flags);
  const all = readKept({ disk: fileDisk, config: { data: dataFolder(flags.data, process.env) } });
  if (flags.json) return print(JSON.stringify(all));
  if (all.length === 0) return print("No run has left anything here that GitHub does not have.");
  for (const kept of all) for (const line of linesOf(kept)) print(line);
}

/** Pushes kept commits now; the daemon does so each hour. */
async function push(flags: Flags) {
  const config = settingsOrExit(() => readConfig(flags, process.env));
  const tried = await pushKept(
    {
      disk: fileDisk,
      config,
      repositories: new GitRepositories(config.data, config.github),
      server: connectServer(config.server, config.token),
      log: pino({ level: "silent" }),
    },
    new AbortController().signal,
  );
  if (flags.json) print(JSON.stringify(tried));
  else if (tried.length === 0) print("No commits are kept here.");
  for (const { kept, beside, ...result } of flags.json ? [] : tried) {
    const where = `${kept.repository} · run ${kept.number}`;
    print(result.ok ? `✔ ${where}: pushed to ${beside}` : `✖ ${where}: ${result.why}`);
  }
  if (tried.some(({ ok }) => !ok)) process.exitCode = 1;
}

function linesOf({ number, repository, branch, title, since, commits, volume }: Kept): string[] {
  const from = commits && `git fetch ${quoted(commits)} ${branch}:${branch}-run-${number}`;
  const look = `docker run --rm -it --entrypoint bash -v ${volume}:/workspace ${baseImage}`;
  const day = new Date(since).toISOString().slice(0, 16).replace("T", " ");
  return [
    `${repository} · run ${number} on ${branch} · ${title} · since ${day} UTC`,
    ...(commits ? [`  commits that GitHub does not have: ${commits}`, `    → ${from}`] : []),
    ...(volume
      ? [`  work that was not committed, for two weeks: volume ${volume}`, `    → ${look}`]
      : []),
  ];
}

/** A path as a shell reads it. */
const quoted = (path: string): string => (/[^\w./-]/.test(path) ? `'${path}'` : path);
