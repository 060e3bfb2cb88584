import type { Installation } from "../github/installation.ts";
import type { Clock } from "../protocol/clock.ts";

/** github.com allows 80 comments and pull requests a minute; this leaves room. */
export const githubsWritesPerMinute = 70;

/** What a write counts as at GitHub: comments and pull requests are content. */
export type Spend = "content" | "other";

/**
 * GitHub allows 80 writes of content a minute and 500 an hour, and 180 writes of any kind a minute
 * (REST docs, "Rate limits", secondary limits): a burst each, then a steady pace. What a bucket holds and
 * what comes into it stay below the limit together: 70 and 175 a minute, 470 an hour.
 */
const rates: Record<Spend, Rate> = {
  content: { burst: 10, perSecond: 1, hourBurst: 250, perHour: 220 },
  other: { burst: 15, perSecond: 1.5, hourBurst: 2_000, perHour: 2_000 },
};
/** With less than this part of the hour left, what only shows progress waits. */
const lowPart = 0.25;

const writes: Partial<Record<keyof Installation, Spend>> = {
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

/** An installation whose writes wait for their turn. */
export type Paced = {
  installation: Installation;
  /** How long the next write of this kind has to wait, in milliseconds. */
  waitMs(spend: Spend): number;
  /** Whether what is left of the hour belongs to what somebody waits for. */
  isLow(): boolean;
};

type PaceSettings = {
  /** How many comments and pull requests a minute; all other pace is in proportion to it. */
  perMinute: number;
  /** No process before this one has written within the last minute, so the burst is unused. */
  rested: boolean;
  clock: Clock;
  /** Ends every wait. */
  signal: AbortSignal;
};

/** The same installation, with every write waiting for its turn. */
export function paced(installation: Installation, settings: PaceSettings): Paced {
  const take = {
    content: createPace(rates.content, settings),
    other: createPace(rates.other, settings),
  };
  const inTurn = new Proxy(installation, {
    get(target, name: keyof Installation) {
      const method = target[name] as (...args: unknown[]) => Promise<unknown>;
      const spend = writes[name];
      if (!spend) return method;
      return async (...args: unknown[]) => {
        await take[spend].turn();
        return await method(...args);
      };
    },
  });
  return {
    installation: inTurn,
    waitMs: (spend) => take[spend].waitMs(),
    isLow: () => take.content.isLow() || take.other.isLow(),
  };
}

type Rate = {
  burst: number;
  perSecond: number;
  hourBurst: number;
  perHour: number;
};

/** Two token buckets: a burst refilled each second, and the hour's share. */
function createPace(rate: Rate, { perMinute, rested, clock, signal }: PaceSettings) {
  const factor = perMinute / githubsWritesPerMinute;
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
    for (const one of buckets) {
      // A clock that was set back takes nothing away.
      one.left = Math.min(one.most, one.left + Math.max(0, now - one.at) * one.perMs);
      one.at = now;
    }
  };
  const waitMs = () => {
    refill();
    return Math.max(0, ...buckets.map((one) => (1 - one.left) / one.perMs));
  };
  return {
    isLow() {
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
      for (const one of buckets) one.left -= 1;
    },
  };
}
