// Places where a test kills the process, as a power cut or the kernel would: what was done before is on disk or
// elsewhere, what comes after is not. Where `TRIMO_CRASH` names one, the process ends there with SIGKILL.

/** Every place, in the order in which a run comes by it. */
export const crashPoints = [
  "app: a delivery is stored",
  "app: a delivery has had its effect",
  "app: the opening commit is made",
  "app: the branch is made",
  "app: a check run is tried",
  "app: a comment is made",
  "app: a report is written",
  "app: a run is granted",
  "app: a token is minted",
  "app: events are taken",
  "app: an end is taken",
  "daemon: a run is claimed",
  "daemon: the record is made",
  "daemon: the mirror is fetched",
  "daemon: the gate is made",
  "daemon: the container is on record",
  "daemon: the container is started",
  "daemon: the start is told",
  "daemon: the task is handed",
  "daemon: an event is on disk",
  "daemon: events are sent",
  "daemon: a commit is told",
  "daemon: a push is done",
  "daemon: a push is told",
  "daemon: the container has ended",
  "daemon: the last push begins",
  "daemon: the session is settled",
  "daemon: the end is closed",
  "daemon: the end is on record",
  "daemon: the container is removed",
  "daemon: the end is told",
  "daemon: the folder is removed",
  "daemon: a death is on record",
  "daemon: a dead container is removed",
  "daemon: a rescue is started",
  "daemon: a rescue is done",
  "daemon: a snapshot is recovered",
  "daemon: the branch beside is pushed",
  "daemon: commits are bundled",
  "daemon: what is kept is on record",
  "daemon: what was kept is pushed",
] as const;
/** One of them. */
export type CrashPoint = (typeof crashPoints)[number];

const armed = process.env.TRIMO_CRASH ?? "";

/** Ends the process with SIGKILL where `TRIMO_CRASH` names this place; else it does nothing. */
export function crashAt(place: CrashPoint) {
  if (armed === place) process.kill(process.pid, "SIGKILL");
}

/** Whether `TRIMO_CRASH` is set and works: in the sources alone, where tests run, and with a place that there is. */
export function crashSetting(): "unset" | "armed" | "misplaced" | "unknown" {
  if (!armed) return "unset";
  const isSource = import.meta.url.endsWith(".ts") && process.env.NODE_ENV !== "production";
  if (!isSource) return "misplaced";
  return crashPoints.some((place) => place === armed) ? "armed" : "unknown";
}
