import type { FailureCode } from "../../app/protocol/failure.ts";
import { trimoYmlPath } from "../../app/protocol/trimo-yml.ts";
import { isFull } from "../disk.ts";
import { DockerError } from "../docker/engine.ts";
import { GitError } from "../repository/git.ts";
import { ServerError } from "../server/client.ts";
import { PlanError } from "./plan.ts";
import type { Ending } from "./verdict.ts";

/** The run was cancelled before it began. */
export class Cancelled extends Error {}

/** The end of a run that could not begin, by what went wrong. Pure. */
export function refusalOf(error: unknown): Ending {
  if (error instanceof Cancelled) return { outcome: "cancelled", failure: null };
  const detail = error instanceof Error ? error.message : String(error);
  if (!(error instanceof PlanError))
    return { outcome: "failed", failure: { code: codeOf(error), detail } };
  const outcome = error.code === "repository_refused" ? "declined" : "failed";
  return { outcome, failure: { code: error.code, detail } };
}

/** Whether Docker does not answer, as while it is being restarted. */
export const isDockerAway = (error: unknown): boolean =>
  error instanceof DockerError && error.kind === "unavailable";

/** Whether a disk is full, this machine's or the engine's. */
export const isDiskFull = (error: unknown): boolean =>
  (error instanceof DockerError && error.kind === "disk_full") || isFull(error);

function codeOf(error: unknown): FailureCode {
  if (error instanceof GitError)
    return error.message.includes(trimoYmlPath) ? "config_invalid" : "repository_unreachable";
  if (error instanceof ServerError) return "daemon_failed";
  if (isDockerAway(error)) return "docker_unavailable";
  if (isDiskFull(error)) return "disk_full";
  if (error instanceof DockerError && error.kind === "image_missing") return "image_missing";
  return "daemon_failed";
}
