import { githubsWritesPerMinute } from "../config.ts";
import type { Workspace } from "../github/app.ts";
import type { Clock } from "../protocol/clock.ts";

/**
 * GitHub allows 80 writes of content a minute and 500 an hour, and 180 writes of any kind a minute
 * (REST docs, "Rate limits", secondary limits): a burst each, then a steady pace. What a bucket holds and
 * what comes into it stay below the limit together: 70 and 175 a minute, 470 an hour.
 */
const content = { burst: 10, perSecond: 1, hourBurst: 250, perHour: 220 };
const other = { burst: 15, perSecond: 1.5, hourBurst: 2_000, perHour: 2_000 };
/** With less than this part of the hour left, what only shows progress waits. */
const lowPart = 0.25;

const writes: Partial<Record<keyof Workspace, "content" | "other">> = {
  createCommit: "other",
  createBranch: "other",
  deleteBranch: "other",
  createCheck: "other",
  updateCheck: "other",
  removeLabel: "other",
  react: "content",
  createPull: "content",
  updatePull: "content",
  markReady: "content",
  createComment: "content",
  updateComment: "content",
};

export type Paced = {
  workspace: Workspace;
  /** How long the next write of this kind has to wait, in milliseconds. */
  waitMs(kind: "content" | "other"): number;
  /** What is left of the hour belongs to what somebody waits for. */
  low(): boolean;
};

/**
 * The same doors, with every write waiting for its turn. With another `perMinute` than github.com's all
 * of the pace is faster or slower in proportion. Not `rested`: a process before this one has written
 * within the last minute and may have used the burst, so this one begins without.
 */
export function paced(
  workspace: Workspace,
  perMinute: number,
  rested: boolean,
  clock: Clock,
  signal: AbortSignal,
): Paced {
  const factor = perMinute / githubsWritesPerMinute;
  const take = {
    content: createPace(content, factor, rested, clock, signal),
    other: createPace(other, factor, rested, clock, signal),
  };
  const doors = new Proxy(workspace, {
    get(target, name: keyof Workspace) {
      const door = target[name] as (...args: unknown[]) => Promise<unknown>;
      const kind = writes[name];
      if (!kind) return door;
      return async (...args: unknown[]) => {
        await take[kind].turn();
        return await door(...args);
      };
    },
  });
  return {
    workspace: doors,
    waitMs: (kind) => take[kind].waitMs(),
    low: () => take.content.low() || take.other.low(),
  };
}

type Rate = {
  burst: number;
  perSecond: number;
  hourBurst: number;
  perHour: number;
};

/** Two token buckets: a burst refilled each second, and the hour's share. */
function createPace(
  rate: Rate,
  factor: number,
  rested: boolean,
  clock: Clock,
  signal: AbortSignal,
) {
  const at = clock.now();
  const bucket = (full: number, most: number, perMs: number) => ({
    left: full * most * factor,
    most: Math.max(1, most * factor),
    perMs: perMs * factor,
    at,
  });
  const second = bucket(rested ? 1 : 0, rate.burst, rate.perSecond / 1_000);
  const hour = bucket(1, rate.hourBurst, rate.perHour / 3_600_000);
  const buckets = [second, hour];
  const refill = () => {
    const now = clock.now();
    for (const bucket of buckets) {
      bucket.left = Math.min(bucket.most, bucket.left + (now - bucket.at) * bucket.perMs);
      bucket.at = now;
    }
  };
  const waitMs = () => {
    refill();
    return Math.max(0, ...buckets.map((bucket) => (1 - bucket.left) / bucket.perMs));
  };
  return {
    low() {
      refill();
      return hour.left < hour.most * lowPart;
    },
    waitMs,
    async turn() {
      for (;;) {
        const wait = waitMs();
        if (wait <= 0 || signal.aborted) break;
        await clock.sleep(Math.ceil(wait), signal);
      }
      for (const bucket of buckets) bucket.left -= 1;
    },
  };
}
