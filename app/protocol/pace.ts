/** Time as an argument, so that a test can move it. Milliseconds since 1970. */
export type Clock = {
  now(): number;
  /** Resolves after `ms`, or at once when the signal aborts; never rejects. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
};

export const systemClock: Clock = { now: Date.now, sleep };

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}

/** Full jitter (AWS Architecture Blog, 2015): between half and all of an exponential step. */
export function backoffMs(attempt: number, baseMs: number, mostMs: number, random: number): number {
  const step = Math.min(mostMs, baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(step / 2 + (step / 2) * random);
}
