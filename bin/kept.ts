import { dataFolder } from "../daemon/config.ts";
import { fileDisk } from "../daemon/disk.ts";
import { baseImage } from "../daemon/images/base.ts";
import { type Kept, readKept } from "../daemon/run/kept.ts";

type Flags = { data?: string; json?: boolean };

/** `trimo kept`: what runs left on this machine that is nowhere else, and how to get it. */
export function runKept(flags: Flags) {
  const all = readKept({ disk: fileDisk, config: { data: dataFolder(flags.data, process.env) } });
  if (flags.json) return print(JSON.stringify(all));
  if (all.length === 0) return print("No run has left anything here that GitHub does not have.");
  for (const kept of all) for (const line of linesOf(kept)) print(line);
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

function print(line: string) {
  process.stdout.write(`${line}\n`);
}
