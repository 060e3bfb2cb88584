import { join } from "node:path";
import type { Job } from "../../app/protocol/job.ts";
import type { Config } from "../config.ts";
import type { Disk } from "../disk.ts";
import { volumeName } from "../docker/container-spec.ts";
import type { Engine } from "../docker/engine.ts";
import type { Attempt, Parts } from "./attempt.ts";
import { bundlePath } from "./kept.ts";
import { gateOf, gatePath, hasGate, type RunRecord, transcriptPath } from "./run-record.ts";

// What a run leaves on the machine: its transcript, and what of its work is nowhere else.

type Named = Pick<Job, "run" | "attempt">;
type Keeper = { disk: Disk; config: Pick<Config, "data"> };

/**
 * Keeps the commits of a run that GitHub has not taken: as a bundle, which leans on no mirror; where none can
 * be made, as the whole gate. Gives its path; null when the run has no gate.
 */
export async function keepCommits(
  { disk, config, repositories, log }: Pick<Parts, "disk" | "config" | "repositories" | "log">,
  { job, folder }: Pick<Attempt, "job" | "folder">,
): Promise<string | null> {
  const bundle = bundlePath(config.data, job);
  const whole = bundle.replace(/\.bundle$/, ".git");
  // Kept already, by a daemon that was killed after it.
  if (!hasGate(disk, folder)) return disk.exists(whole) ? whole : null;
  try {
    await repositories.openGate(gateOf({ job, folder })).bundle(bundle, job.base.sha);
    return bundle;
  } catch (error) {
    log.warn({ err: error, run: job.run }, "no bundle could be made; the gate itself is kept");
    await disk.move(gatePath(folder), whole);
    return whole;
  }
}

/** Removes a run's container, whether it was made or not; its volume stays. */
async function removeContainer(engine: Engine, job: Named, containerId: string | null) {
  await engine.removeContainer(containerId ?? volumeName(job.run, job.attempt));
}

/** Removes a run's container and volume, whether they were made or not. */
export async function removeContainerAndVolume(
  engine: Engine,
  job: Named,
  containerId: string | null,
) {
  await removeContainer(engine, job, containerId);
  await engine.removeVolume(volumeName(job.run, job.attempt));
}

/** Removes what a run holds on the engine; its volume stays where that may have the only copy of its work. */
export async function removeHeld(
  engine: Engine,
  job: Named,
  { containerId, keepVolume }: Pick<RunRecord, "containerId" | "keepVolume">,
) {
  if (keepVolume) await removeContainer(engine, job, containerId);
  else await removeContainerAndVolume(engine, job, containerId);
}

/** Keeps a run's transcript and removes its folder. */
export async function removeRunFolder({ disk, config }: Keeper, folder: string, job: Named) {
  const transcript = transcriptPath(folder);
  const name = `${job.run}-${job.attempt}.log`;
  if (disk.exists(transcript)) await disk.move(transcript, join(config.data, "transcripts", name));
  await disk.remove(folder);
}
