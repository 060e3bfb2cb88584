/** How long GitHub has refused something in a row. */
export type Refusals = {
  refusals: number;
  /** In milliseconds since 1970; null: it has not refused. */
  refusedSince: number | null;
};

/** Nothing is refused, or no longer. */
export const notRefused: Refusals = { refusals: 0, refusedSince: null };

/**
 * A refusal is believed after so many, and not before this long has passed, in milliseconds: a token just
 * made answers 401 for seconds (octokit/auth-app.js #65), and an incident of GitHub's brings 404s.
 */
const refusalsMin = 12;
export const usualPatienceMs = 30 * 60_000;
/** Between two tries of what is refused at most this part of the patience. */
const patienceParts = 6;

/** One refusal more, at `now` (milliseconds since 1970). */
export function refusedAgain(
  { refusals, refusedSince }: Refusals,
  now: number,
  patienceMs: number,
): { counted: Refusals; isBelieved: boolean } {
  // A clock that was set back must not make it wait longer.
  const since = Math.min(refusedSince ?? now, now);
  const counted = { refusals: refusals + 1, refusedSince: since };
  return {
    counted,
    isBelieved: counted.refusals >= refusalsMin && now - since >= patienceMs,
  };
}

/** The steps between two tries of what GitHub refuses. */
export const refusedBackoff = (patienceMs: number) => ({
  baseMs: Math.min(500, patienceMs / patienceParts),
  mostMs: patienceMs / patienceParts,
});

/** What was given up is tried again so often, in milliseconds, for so long. */
export const givenUpEveryMs = 3_600_000;
export const givenUpForMs = 3 * 24 * 3_600_000;
