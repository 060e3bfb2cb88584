import { backoffMs, type Clock, waitAmong } from "../../app/protocol/clock.ts";
import type { Tell } from "../../app/protocol/wire.ts";
import { type Server, ServerError } from "./client.ts";

/** The part of a lease after which it is renewed. */
const renewAfter = 1 / 6;
/** Left for stopping the container before the lease ends and somebody else may begin. */
const stopMs = 30_000;

/**
 * Renews an attempt's lease until `signal` aborts. `onCancel` when the app wants it stopped; `onLost`
 * when it is no longer ours, or soon will not be.
 */
export async function keepLease(
  server: Server,
  clock: Clock,
  run: { id: string; attempt: number; leaseMs: number },
  on: {
    cancel: () => void;
    lost: (why: string) => void;
    /** The last tell that was taken over, and where the next ones go. */
    told: () => number;
    tell: (fresh: Tell[]) => void;
  },
  /** Called to renew at once. */
  pokes: (() => void)[],
  signal: AbortSignal,
) {
  let goodUntil = clock.now() + run.leaseMs;
  let failures = 0;
  let timer: NodeJS.Timeout | undefined;
  // By the clock, not by failed requests: one that hangs would let the lease end meanwhile.
  const watch = () => {
    clearTimeout(timer);
    const left = goodUntil - stopMs - clock.now();
    timer = setTimeout(() => on.lost("the app did not answer until the lease's end"), left);
  };
  watch();
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  while (!signal.aborted) {
    const pause = failures
      ? backoffMs(failures, 500, 5_000, Math.random())
      : run.leaseMs * renewAfter;
    const quiet = new AbortController();
    const stop = AbortSignal.any([signal, quiet.signal]);
    await Promise.race([clock.sleep(pause, stop), waitAmong(pokes, stop)]);
    quiet.abort();
    if (signal.aborted) return;
    const askedAt = clock.now();
    try {
      const answer = await server.renew(run.id, run.attempt, on.told(), signal);
      goodUntil = askedAt + answer.leaseMs;
      failures = 0;
      watch();
      if (answer.cancel) on.cancel();
      if (answer.tell.length > 0) on.tell(answer.tell);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ServerError)) throw error;
      if (!error.passing) return on.lost(error.message);
      failures += 1;
    }
  }
}
