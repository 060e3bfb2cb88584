import { expect, test } from "vitest";
import { systemClock } from "../../../../app/protocol/clock.ts";
import type { FailureCode } from "../../../../app/protocol/failure.ts";
import type { LimitHit, Model } from "../../../../daemon/gateway/model/model.ts";
import { failed } from "../../../../daemon/gateway/model/patience.ts";

const patienceMs = 300_000;

/** A model whose service fails so often in a row, `everyMs` apart; what it is ended with, if it is. */
function after(
  times: number,
  everyMs: number,
  code: FailureCode,
  { resetAt = null, generates = true }: { resetAt?: number | null; generates?: boolean } = {},
): LimitHit[] {
  const ends: LimitHit[] = [];
  let now = 0;
  const model = {
    clock: { ...systemClock, now: () => now },
    settings: { patienceMs },
    failing: null,
    ended: null,
    on: { limitHit: (limit: LimitHit) => ends.push(limit) },
  } as unknown as Model;
  for (let count = 0; count < times; count++) {
    failed(model, generates, { code, text: "x", resetAt });
    now += everyMs;
  }
  return ends;
}

test.each<[string, LimitHit[], boolean]>([
  ["a key that is refused once", after(1, 0, "credential_refused"), false],
  ["a key that is refused twice", after(2, 0, "credential_refused"), true],
  [
    "a key that is refused while models are listed",
    after(2, 0, "credential_refused", { generates: false }),
    true,
  ],
  ["an unknown model, twice", after(2, 0, "model_unknown"), true],
  [
    "failures of what only counts or lists",
    after(30, 60_000, "model_overloaded", { generates: false }),
    false,
  ],
  ["nineteen failures in a moment", after(19, 10, "model_overloaded"), false],
  ["twenty failures in a moment", after(20, 10, "model_overloaded"), true],
  ["two failures an hour apart", after(2, 3_600_000, "model_overloaded"), false],
  ["three failures over longer than the patience", after(3, 160_000, "model_overloaded"), true],
  ["a quota with a reset in an hour", after(1, 0, "quota_reached", { resetAt: 3_600_000 }), true],
  [
    "a quota with a reset in half a minute",
    after(1, 0, "quota_reached", { resetAt: 30_000 }),
    false,
  ],
  ["a quota without a reset", after(1, 0, "quota_reached"), false],
])("%s", (_what, ends, isEnded) => {
  // Once, however many failures follow.
  expect(ends).toHaveLength(isEnded ? 1 : 0);
});
