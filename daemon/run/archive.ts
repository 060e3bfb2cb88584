import { existsSync } from "node:fs";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Job } from "../../app/protocol/job.ts";
import { volumeName } from "../docker/container-spec.ts";
import type { Engine } from "../docker/engine.ts";

// What a run leaves on the machine: its transcript, and the gate when GitHub has not taken its commits.

type Named = Pick<Job, "run" | "attempt">;

/** The kept gate's path below the data folder, as people are told it. */
export const keptPath = ({ run, attempt }: Named): string => `kept/${run}-${attempt}.git`;

/** Moves a run's gate to where it stays: the only copy of commits that GitHub has not taken. */
export async function keepGate(data: string, folder: string, job: Named) {
  const gate = join(folder, "gate.git");
  if (!existsSync(gate)) return;
  await mkdir(join(data, "kept"), { recursive: true, mode: 0o700 });
  await rename(gate, join(data, keptPath(job)));
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
export async function removeRunFolder(data: string, folder: string, { run, attempt }: Named) {
  const transcript = join(folder, "transcript.log");
  if (existsSync(transcript)) {
    await mkdir(join(data, "transcripts"), { recursive: true, mode: 0o700 });
    await rename(transcript, join(data, "transcripts", `${run}-${attempt}.log`));
  }
  await rm(folder, { recursive: true, force: true });
}
