import { z } from "zod";

const Numbered = z.object({ number: z.number() }).nullish();
const Spoken = z.object({ body: z.string().nullish() }).nullish();
const Suite = z.object({ head_branch: z.string().nullish() }).nullish();
/** The few fields of any payload that say what it tells of, and who asks for what. */
const Peeked = z.object({
  action: z.string().nullish(),
  installation: z.object({ id: z.number() }).nullish(),
  repository: z.object({ id: z.number(), full_name: z.string() }).nullish(),
  sender: z.object({ login: z.string(), type: z.string() }).nullish(),
  issue: Numbered,
  pull_request: Numbered,
  comment: Spoken,
  review: Spoken,
  label: z.object({ name: z.string() }).nullish(),
  check_suite: Suite,
  check_run: z.object({ check_suite: Suite }).nullish(),
  ref: z.string().nullish(),
});
type Peeked = z.infer<typeof Peeked>;

/** Reads a little of a delivery's bytes, whatever its event; null: they are no payload of GitHub's. */
export function peek(body: string): Peeked | null {
  try {
    return Peeked.safeParse(JSON.parse(body)).data ?? null;
  } catch {
    // No JSON: its handling says so.
    return null;
  }
}

/** The issue or pull request it tells of; null: none. */
export const threadOf = ({ issue, pull_request }: Peeked): number | null =>
  issue?.number ?? pull_request?.number ?? null;

/** What somebody wrote in a comment or review; empty: nothing. */
export const wordsOf = ({ comment, review }: Peeked): string => comment?.body ?? review?.body ?? "";
