import { z } from "zod";

/** Every way a run can end badly. `app/wording.ts` has the sentence and the mend of each. */
export const failureCodes = [
  "agent_failed",
  "agent_unknown",
  "asked_question",
  "branch_moved",
  "clone_failed",
  "config_invalid",
  "container_died",
  "daemon_failed",
  "daemon_lost",
  "disk_full",
  "disk_limit",
  "docker_unavailable",
  "image_broken",
  "image_build_failed",
  "image_missing",
  "image_no_contract",
  "image_platform",
  "image_refused",
  "out_of_memory",
  "output_limit",
  "pids_limit",
  "preboot_failed",
  "push_refused",
  "repository_refused",
  "repository_unreachable",
  "time_limit",
  "verify_failed",
] as const;

export const FailureCode = z.enum(failureCodes);
export type FailureCode = z.infer<typeof FailureCode>;

/** Output's end that a failure carries, in characters, redacted; the only output that leaves the daemon. */
export const failureDetailMax = 4_000;

export const Failure = z.strictObject({
  code: FailureCode,
  detail: z.string().max(failureDetailMax),
});
export type Failure = z.infer<typeof Failure>;
