import { z } from "zod";
import { AgentName, ImageName } from "./names.ts";

/** `cpus` in cores, memory and disk as `512m` or `4g`, `minutes` for the whole run. */
const size = z.string().regex(/^[1-9][0-9]{0,5}[mg]$/, "a size such as 512m or 4g");
export const Limits = z.strictObject({
  cpus: z.number().positive().max(512),
  memory: size,
  pids: z.number().int().min(16).max(65_536),
  disk: size,
  minutes: z.number().positive().max(1_440),
});
export type Limits = z.infer<typeof Limits>;

/** `host:port`; a leading `*.` matches every name below. */
export const HostPort = z
  .string()
  .regex(/^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?:[0-9]{1,5}$/, "host:port, in lower case");

/** Verify commands of one repository, and the length of each in characters. */
const verifyMax = 10;
const verifyLengthMax = 1_000;

/** `.github/trimo.yml` at the default branch. Every key is optional; unknown ones are mistakes. */
export const TrimoYml = z.strictObject({
  agent: AgentName.optional(),
  image: ImageName.optional(),
  labels: z
    .record(
      z.string().min(1).max(50),
      z.strictObject({ agent: AgentName.optional(), image: ImageName.optional() }),
    )
    .optional(),
  branch: z
    .string()
    .max(100)
    .regex(/^[A-Za-z0-9_][A-Za-z0-9._/{}-]*$/, "a branch template such as trimo/{number}-{slug}")
    .refine((template) => template.includes("{number}"), "the template needs {number}")
    .optional(),
  pull_request: z.enum(["draft", "ready", "manual"]).optional(),
  verify: z.array(z.string().min(1).max(verifyLengthMax)).max(verifyMax).optional(),
  limits: Limits.partial().optional(),
  egress: z.strictObject({ allow: z.array(HostPort).max(100) }).optional(),
});
export type TrimoYml = z.infer<typeof TrimoYml>;

/** Where it lies in a repository. */
export const trimoYmlPath = ".github/trimo.yml";

/** The labels that start a run where trimo.yml names none: `trimo`, and `trimo:AGENT`. */
export function labelIntent(
  label: string,
  config: TrimoYml,
): { agent: string | null; image: string | null } | null {
  if (config.labels) {
    const named = Object.entries(config.labels).find(
      ([name]) => name.toLowerCase() === label.toLowerCase(),
    );
    return named ? { agent: named[1].agent ?? null, image: named[1].image ?? null } : null;
  }
  const match = /^trimo(?::([a-z0-9][a-z0-9_-]{0,39}))?$/.exec(label.toLowerCase());
  if (!match) return null;
  return { agent: match[1] ?? null, image: null };
}
