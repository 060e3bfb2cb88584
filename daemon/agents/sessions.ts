import {
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
} from "node:fs";
import { rename, rm, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { join } from "node:path";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { z } from "zod";

// What agents remember of pipelines: an archive of the agent's own session files, as it came out of the
// container, and what Trimo knows of it. It is never unpacked on this machine: only in a container, as
// the agent's own user.

/** Of one session. */
export const sessionBytesMax = 128 * 2 ** 20;
const archive = "session.tar";

const About = z.object({
  pipeline: z.string(),
  agent: z.string(),
  adapter: z.string(),
  /** The agent's own name for it. */
  session: z.string().min(1).max(200),
  /** The run that left it. */
  number: z.number(),
  spent: z.object({
    inputTokens: z.number(),
    cachedTokens: z.number(),
    outputTokens: z.number(),
    costMicroUsd: z.number(),
  }),
  savedAt: z.number(),
});
type About = z.infer<typeof About>;
type Session = About & { path: string };

const folderOf = (data: string, pipelineId: string, agent: string): string =>
  join(data, "sessions", `${pipelineId}-${agent}`);

/**
 * An agent's session of a pipeline; null: there is none here, or it is another program's under the same
 * name.
 */
export function findSession(
  data: string,
  pipelineId: string,
  agent: string,
  adapter: string,
): Session | null {
  const found = readSession(folderOf(data, pipelineId, agent));
  return found?.adapter === adapter ? found : null;
}

/** The agents that have a session of this pipeline on this machine. */
export function agentsWithSession(data: string, pipelineId: string): string[] {
  return namesIn(data)
    .filter((name) => name.startsWith(`${pipelineId}-`))
    .map((name) => name.slice(pipelineId.length + 1));
}

/** Takes over the session files that a run left at `from`, in place of the agent's earlier session. */
export async function keepSession(data: string, from: string, about: About) {
  const folder = folderOf(data, about.pipeline, about.agent);
  const fresh = `${from}.kept`;
  await rm(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true, mode: 0o700 });
  await writeFile(join(fresh, "about.json"), JSON.stringify(about), { mode: 0o600 });
  await rename(from, join(fresh, archive));
  mkdirSync(join(data, "sessions"), { recursive: true, mode: 0o700 });
  await rm(folder, { recursive: true, force: true });
  await rename(fresh, folder);
}

/** Removes an agent's session of a pipeline; nothing to do when there is none. */
export async function forgetSession(data: string, pipelineId: string, agent: string) {
  await rm(folderOf(data, pipelineId, agent), { recursive: true, force: true });
}

/**
 * Removes the sessions that were unused for too long, and the oldest beyond what they may take in all.
 * `now`: milliseconds since 1970.
 */
export async function sweepSessions(
  data: string,
  limits: { days: number; diskBytes: number },
  now: number,
) {
  const all = namesIn(data)
    .map((name) => join(data, "sessions", name))
    .map((folder) => ({ folder, found: readSession(folder) }))
    .sort((a, b) => (b.found?.savedAt ?? 0) - (a.found?.savedAt ?? 0));
  let bytes = 0;
  for (const { folder, found } of all) {
    bytes += found ? statSync(found.path).size : 0;
    const old = !found || now - found.savedAt > limits.days * 24 * 3_600_000;
    if (old || bytes > limits.diskBytes) await rm(folder, { recursive: true, force: true });
  }
}

/**
 * Writes an archive of session files as it comes; false when it is too large or cut short, and then nothing
 * is left of it.
 */
export async function receiveSessionFiles(request: IncomingMessage, to: string): Promise<boolean> {
  let bytes = 0;
  // What is too much is read and dropped: who sends it is told, instead of being cut off.
  const limit = new Transform({
    transform(chunk: Buffer, _, done) {
      bytes += chunk.length;
      done(null, bytes > sessionBytesMax ? Buffer.alloc(0) : chunk);
    },
  });
  try {
    await pipeline(request, limit, createWriteStream(`${to}.new`, { mode: 0o600 }));
    if (bytes > sessionBytesMax) throw new Error("too large");
    await rename(`${to}.new`, to);
    return true;
  } catch {
    // Too large, or the tunnel broke: half of an archive is none.
    await rm(`${to}.new`, { force: true });
    return false;
  }
}

function namesIn(data: string): string[] {
  const folder = join(data, "sessions");
  return existsSync(folder) ? readdirSync(folder) : [];
}

function readSession(folder: string): Session | null {
  try {
    const about = About.parse(JSON.parse(readFileSync(join(folder, "about.json"), "utf8")));
    const path = join(folder, archive);
    return existsSync(path) ? { ...about, path } : null;
  } catch {
    // Being written when the daemon was killed, or of another version.
    return null;
  }
}
