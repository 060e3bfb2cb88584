import { join } from "node:path";
import type { Job } from "../../app/protocol/job.ts";
import type { Config } from "../config.ts";
import type { Disk } from "../disk.ts";
import { volumeName } from "../docker/container-spec.ts";
import type { Engine } from "../docker/engine.ts";
import { gatePath } from "./run-record.ts";

// What a run leaves on the machine: its transcript, and the gate when GitHub has not taken its commits.

type Named = Pick<Job, "run" | "attempt">;
type Keeper = { disk: Disk; config: Pick<Config, "data"> };

/** The kept gate's path below the data folder, as people are told it. */
export const keptPath = ({ run, attempt }: Named): string => `kept/${run}-${attempt}.git`;

/** Moves a run's gate to where it stays: the only copy of commits that GitHub has not taken. */
export async function keepGate({ disk, config }: Keeper, folder: string, job: Named) {
  const gate = gatePath(folder);
  if (disk.exists(gate)) await disk.move(gate, join(config.data, keptPath(job)));
}

/** Removes a run's container and volume, whether they were made or not. */
export async function removeContainerAndVolume(
  engine: Engine,
  job: Named,
  containerId: string | null,
) {
  const name = volumeName(job.run, job.attempt);
  await engine.removeContainer(containerId ?? name);
  await engine.removeVolume(name);
}

/** Keeps a run's transcript and removes its folder. */
export async function removeRunFolder({ disk, config }: Keeper, folder: string, job: Named) {
  const transcript = join(folder, "transcript.log");
  const name = `${job.run}-${job.attempt}.log`;
  if (disk.exists(transcript)) await disk.move(transcript, join(config.data, "transcripts", name));
  await disk.remove(folder);
}
