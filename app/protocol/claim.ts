import { z } from "zod";
import { Job } from "./job.ts";

export const Claim = z.strictObject({
  /** Names this request: asked again with the same key, the same job is the answer. */
  key: z.string().min(8).max(64),
});
export const ClaimAnswer = z.strictObject({ job: Job.nullable() });
