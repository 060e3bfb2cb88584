import { z } from "zod";

/** Every refusal of the daemons' API; `error` is for people, `code` for programs. */
export const Refusal = z.strictObject({
  code: z.enum(["unauthorized", "protocol", "stale", "gap", "invalid", "unknown"]),
  error: z.string(),
});
export type Refusal = z.infer<typeof Refusal>;
