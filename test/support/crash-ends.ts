import type { CrashPoint } from "../../app/protocol/crash.ts";

/** Places that only a run comes by whose container died. */
export const deathPlaces: readonly CrashPoint[] = [
  "daemon: a death is on record",
  "daemon: a dead container is removed",
  "daemon: a rescue is started",
  "daemon: a rescue is done",
];
/** And one whose commits GitHub does not take. */
export const keepingPlaces: readonly CrashPoint[] = [
  "daemon: commits are bundled",
  "daemon: what is kept is on record",
];
/** All that a run does not come by which ends well. */
export const endPlaces: readonly CrashPoint[] = [
  ...deathPlaces,
  ...keepingPlaces,
  "daemon: a snapshot is recovered",
  "daemon: the branch beside is pushed",
  "daemon: what was kept is pushed",
];
