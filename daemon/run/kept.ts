import { join } from "node:path";
import { z } from "zod";
import type { Job } from "../../app/protocol/job.ts";
import type { Config } from "../config.ts";
import type { Disk } from "../disk.ts";

// What a run left that is nowhere else: it stays on this machine when everything else of the run is gone.

const Kept = z.object({
  run: z.string(),
  attempt: z.number(),
  /** The run's number in its pipeline. */
  number: z.number(),
  repository: z.string(),
  branch: z.string(),
  title: z.string(),
  /** In milliseconds since 1970. */
  since: z.number(),
  /** Its commits: a git bundle, or a whole gate where none could be made, as a path; null: none. */
  commits: z.string().nullable(),
  /** A volume whose uncommitted work could not be saved; null: there is none. */
  volume: z.string().nullable(),
});
export type Kept = z.infer<typeof Kept>;

type Keeper = { disk: Disk; config: Pick<Config, "data"> };
type Named = Pick<Job, "run" | "attempt">;

/** The folder of what is kept, below the daemon's data folder. */
const keptFolder = (data: string): string => join(data, "kept");

/** Where an attempt's commits are kept. */
export const bundlePath = (data: string, { run, attempt }: Named): string =>
  join(keptFolder(data), `${run}-${attempt}.bundle`);

const aboutPath = (data: string, { run, attempt }: Named): string =>
  join(keptFolder(data), `${run}-${attempt}.json`);

/** Writes down what is kept of an attempt. */
export function recordKept({ disk, config }: Keeper, kept: Kept) {
  disk.replace(aboutPath(config.data, kept), JSON.stringify(kept));
}

/** Lists what is kept on this machine, oldest first. */
export function readKept({ disk, config }: Keeper): Kept[] {
  const folder = keptFolder(config.data);
  const rows = disk
    .list(folder)
    .filter((name) => name.endsWith(".json"))
    .flatMap((name) => {
      try {
        return [Kept.parse(JSON.parse(disk.read(join(folder, name)) ?? "null"))];
      } catch {
        // Of another version: what it speaks of is left alone.
        return [];
      }
    });
  return rows.toSorted((a, b) => a.since - b.since);
}

/** Forgets kept commits, which GitHub has by now, and removes what kept them. */
export async function forgetCommits(keeper: Keeper, kept: Kept) {
  // First the word of them: a kill in between leaves a file too many, never a word without one.
  if (kept.volume) recordKept(keeper, { ...kept, commits: null });
  else await keeper.disk.remove(aboutPath(keeper.config.data, kept));
  if (kept.commits) await keeper.disk.remove(kept.commits);
}

/** Forgets a kept volume, whose removal is the caller's; kept commits are never forgotten here. */
export async function forgetVolume(keeper: Keeper, kept: Kept) {
  if (kept.commits) return recordKept(keeper, { ...kept, volume: null });
  await keeper.disk.remove(aboutPath(keeper.config.data, kept));
}
