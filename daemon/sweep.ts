import { basename } from "node:path";
import type { RunningState } from "../app/protocol/running-state.ts";
import { sweepSessions } from "./agents/sessions.ts";
import { bytesOf } from "./config.ts";
import { daemonLabel } from "./docker/container-spec.ts";
import type { Parts } from "./run/attempt.ts";
import { forgetVolume, readKept } from "./run/kept.ts";
import { readRecords } from "./run/run-record.ts";

const everyMs = 10 * 60_000;
/** How long the volume of a run that could not be saved is kept. */
const keptVolumeMs = 14 * 24 * 3_600_000;

/** Removes what a dead daemon left: at once at the start, and now and then, until `state` stops. */
export async function sweepLoop(parts: Parts, state: RunningState) {
  while (state.running) {
    try {
      await sweep(parts);
      await parts.builds.sweep();
      if (isIdle(parts)) await parts.repositories.tidy(parts.clock.now(), state.signal);
      const { config, clock } = parts;
      const limits = { days: config.sessions.days, diskBytes: bytesOf(config.sessions.disk) };
      await sweepSessions(config.data, limits, clock.now());
    } catch (error) {
      parts.log.warn({ err: error }, "the sweep failed; it runs again at its next turn");
    }
    await state.sleep(everyMs);
  }
}

/** Whether nothing on this machine leans on a mirror: no run in hand, and no whole gate that is kept. */
function isIdle({ disk, config }: Parts): boolean {
  if (readRecords(disk, config.data).length > 0) return false;
  return readKept({ disk, config }).every(({ commits }) => !commits?.endsWith(".git"));
}

/** Only what carries this daemon's own label, and of that only what no record speaks of. */
async function sweep({ engine, disk, clock, log, config, identity }: Parts) {
  const label = `${daemonLabel}=${identity}`;
  const containers = await engine.ownedContainers(label);
  const volumes = await engine.ownedVolumes(label);
  // Read after the engine was asked: a run that began meanwhile has its record already.
  const records = readRecords(disk, config.data);
  const known = new Set(records.map(({ folder }) => basename(folder).replace(/-\d+$/, "")));
  for (const { id, run } of containers) {
    if (run && known.has(run)) continue;
    log.warn({ run, container: id.slice(0, 12) }, "removing a container nobody speaks of");
    await engine.removeContainer(id);
  }
  const kept = new Map(readKept({ disk, config }).map((row) => [row.volume, row]));
  for (const { name, run } of volumes) {
    if (run && known.has(run)) continue;
    const about = kept.get(name);
    if (about && clock.now() - about.since < keptVolumeMs) continue;
    if (about) await forgetVolume({ disk, config }, about);
    log.warn({ run, volume: name }, "removing a volume nobody speaks of");
    await engine.removeVolume(name);
  }
  for (const { folder, record, unreadable } of records) {
    if (unreadable) log.error({ folder }, "a run's record cannot be read; what it has is kept");
    else if (!record) await disk.remove(folder);
  }
}
