import { z } from "zod";

export const TokenRequest = z.strictObject({
  attempt: z.number().int().positive(),
  /**
   * `push` its branch, `read` what is said about the repository (issues, pull requests, checks), or push
   * what was `kept` of an attempt that is over, beside the branch.
   */
  purpose: z.enum(["push", "read", "kept"]),
  /** GitHub refused the one before, as after a transfer or a suspension: a new one is minted. */
  fresh: z.boolean().default(false),
});
export type TokenPurpose = z.infer<typeof TokenRequest>["purpose"];
/** A token for the one repository of this attempt; `expiresAt` in milliseconds since 1970. */
export const TokenAnswer = z.strictObject({ token: z.string(), expiresAt: z.number().int() });
