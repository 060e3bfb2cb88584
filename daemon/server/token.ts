import type { Clock } from "../../app/protocol/clock.ts";
import type { Job } from "../../app/protocol/job.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import type { TokenPurpose } from "../../app/protocol/token.ts";
import { type Server, ServerError } from "./client.ts";

/** A token that ends sooner is asked for anew, in milliseconds. */
const leftMsMin = 5 * 60_000;
const triesMax = 10;
const retry = { baseMs: 200, mostMs: 5_000 };

type Parts = {
  server: Server;
  clock: Clock;
  /** Every token is added: it is masked in whatever is told of the run. */
  secrets: Set<string>;
  signal: AbortSignal;
};

/** Gives a token; `refused`: the one before, which GitHub has refused, so that a new one is asked for. */
export type TokenKeeper = (refused?: string | null) => Promise<string>;

/**
 * Hands out an attempt's token for one purpose, asked for anew before it ends. What it returns rejects
 * with ServerError when the app refuses, or does not answer for about half a minute: who asks knows how long
 * to go on.
 */
export function tokenKeeper(
  { server, clock, secrets, signal }: Parts,
  { run, attempt }: Pick<Job, "run" | "attempt">,
  purpose: TokenPurpose,
): TokenKeeper {
  let known: { token: string; expiresAt: number } | null = null;
  return async (refused) => {
    const state = new RunningState(clock, signal);
    for (;;) {
      const fresh = known !== null && known.token === refused;
      if (known && !fresh && known.expiresAt - clock.now() > leftMsMin) return known.token;
      try {
        known = await server.token(run, { attempt, purpose, fresh }, signal);
        secrets.add(known.token);
        secrets.add(Buffer.from(`x-access-token:${known.token}`).toString("base64"));
        // The same again: then it is not the token that GitHub refuses.
        if (fresh) return known.token;
      } catch (error) {
        const passing = error instanceof ServerError && error.passing;
        if (!passing || state.failures >= triesMax || !state.running) throw error;
        await state.backOff(retry);
      }
    }
  };
}
