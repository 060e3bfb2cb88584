import { utcTime } from "../../app/protocol/clock.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import { GitError, isTokenRefused } from "../repository/git.ts";
import { Refusals } from "../repository/refusals.ts";
import type { Fetched } from "../repository/repositories.ts";
import { ServerError } from "../server/client.ts";
import type { Attempt, Parts } from "./attempt.ts";
import { Cancelled } from "./refusal.ts";

/** How long a GitHub or an app that does not answer is waited for, in milliseconds. */
const awayMsMax = 30 * 60_000;
const believing = { least: 3, overMs: 60_000 };
const retry = { baseMs: 500, mostMs: 15_000 };

/**
 * Brings the mirror up to date at a run's start, however long GitHub is away, and says that it waits.
 *
 * @throws Cancelled when the run is; GitError or ServerError when it cannot be done, after the bounds above.
 */
export async function fetchMirror(
  { repositories, clock }: Pick<Parts, "repositories" | "clock">,
  { job, signals, pushToken, outbox }: Pick<Attempt, "job" | "signals" | "pushToken" | "outbox">,
): Promise<Fetched> {
  const state = new RunningState(clock, AbortSignal.any([signals.over, signals.cancel]));
  const patience = new Patience(clock.now());
  const { repository, branch } = job;
  let token: string | null = null;
  let refused: string | null = null;
  for (;;) {
    try {
      token = await pushToken(refused);
      return await repositories.fetch({ repository, branch, token }, state.signal);
    } catch (error) {
      if (signals.cancel.aborted) throw new Cancelled();
      if (signals.over.aborted || !patience.has(error, clock.now())) throw error;
      refused = error instanceof GitError && isTokenRefused(error.message) ? token : null;
      // Not for a single hiccup.
      if (isAway(error) && state.failures === 1)
        outbox.add({ type: "notice", text: waitingText(error, clock.now()) });
      await state.backOff(retry);
    }
  }
}

/** For how long a run's start goes on trying; times in milliseconds since 1970. */
export class Patience {
  readonly #beganAt: number;
  readonly #refusals = new Refusals(believing);

  constructor(beganAt: number) {
    this.#beganAt = beganAt;
  }

  /** Whether to try again after this error, the newest in a row. */
  has(error: unknown, now: number): boolean {
    if (isAway(error)) {
      this.#refusals.forget();
      return now - this.#beganAt < awayMsMax;
    }
    if (!(error instanceof GitError) || error.kind !== "refused") return false;
    return !this.#refusals.believed(now);
  }
}

const isAway = (error: unknown): boolean =>
  (error instanceof GitError && error.kind === "away") ||
  (error instanceof ServerError && error.passing);

function waitingText(error: unknown, now: number): string {
  const who = error instanceof ServerError ? "The app" : "GitHub";
  return `${who} does not answer; waiting since ${utcTime(now)}`;
}
