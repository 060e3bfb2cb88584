import type { Logger } from "pino";
import { crashAt } from "../../app/protocol/crash.ts";
import { isolated, type RunningState } from "../../app/protocol/running-state.ts";
import type { Config } from "../config.ts";
import type { Disk } from "../disk.ts";
import type { Repositories } from "../repository/repositories.ts";
import { type Server, ServerError } from "../server/client.ts";
import { forgetCommits, type Kept, readKept } from "./kept.ts";

// Commits that GitHub did not take are pushed beside the run's branch as soon as it takes them.

const everyMs = 3_600_000;

type Parts = {
  disk: Disk;
  config: Pick<Config, "data">;
  repositories: Pick<Repositories, "pushKept">;
  server: Pick<Server, "token">;
  log: Pick<Logger, "info" | "warn" | "error">;
};

/** What came of one try; `why`: why the commits stay here. */
type KeptPush = { kept: Kept; beside: string } & ({ ok: true } | { ok: false; why: string });

/** Tries to push what is kept, at the start and each hour, until `state` stops. */
export async function pushKeptLoop(parts: Parts, state: RunningState) {
  while (state.running) {
    const failed = { message: "what is kept could not be looked at; tried again in an hour" };
    await isolated(parts.log, failed, async () => {
      for (const { kept, beside, ...result } of await pushKept(parts, state.signal)) {
        const about = { run: kept.run, repository: kept.repository, branch: beside };
        if (result.ok) parts.log.info(about, "kept commits are on GitHub now");
        else parts.log.warn({ ...about, why: result.why }, "kept commits could not be pushed");
      }
    });
    await state.sleep(everyMs);
  }
}

/** Tries to push each run's kept commits once; what GitHub took is not kept any longer. */
export async function pushKept(parts: Parts, signal: AbortSignal): Promise<KeptPush[]> {
  const tried: KeptPush[] = [];
  for (const kept of readKept(parts)) {
    if (kept.commits === null || signal.aborted) continue;
    const beside = `${kept.branch}-run-${kept.number}`;
    const why = await pushOne(parts, { ...kept, commits: kept.commits }, beside, signal);
    tried.push({ kept, beside, ...(why === null ? { ok: true } : { ok: false, why }) });
  }
  return tried;
}

/** Null: GitHub has them; else why not. */
async function pushOne(
  { server, repositories, ...keeper }: Parts,
  kept: Kept & { commits: string },
  beside: string,
  signal: AbortSignal,
): Promise<string | null> {
  const { run, attempt, repository, branch, commits: path } = kept;
  try {
    // Nobody waits for it, and a token that GitHub refuses would be handed out again.
    const wanted = { attempt, purpose: "kept" as const, fresh: true };
    const { token } = await server.token(run, wanted, signal);
    const result = await repositories.pushKept({ repository, branch, path, beside }, token, signal);
    if (result === "moved") return `${beside} has other commits on GitHub`;
    if (result !== "pushed") return "refused" in result ? result.refused : result.unreachable;
    crashAt("daemon: what was kept is pushed");
    await forgetCommits(keeper, kept);
    return null;
  } catch (error) {
    if (error instanceof ServerError) return `the app gives no token: ${error.message}`;
    return error instanceof Error ? error.message : String(error);
  }
}
