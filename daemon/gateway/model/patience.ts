import type { LimitHit, Model } from "./model.ts";

// The one model of a run. An agent speaks to http://127.0.0.1:3128/model/NAME with a placeholder for a
// key; the key is put on here, on the way out of the machine, and only for what a model is asked.
// Both ways are streamed as they come.

/** In a row, before it is taken for an answer. Another key may come of a command in between. */
const refusedMax = 2;
const unknownMax = 2;
const failuresMax = 20;
/** A limit that ends sooner is left to the agent's own patience. */
const soonMs = 60_000;

/** Counts one more failure in a row; so many, or one of such a kind, end the agent. */
export function failed(model: Model, generates: boolean, limit: LimitHit) {
  // That a service lists no models, or counts no tokens, is nothing to end a run for.
  if (!generates && limit.code !== "credential_refused") return;
  const now = model.clock.now();
  const same = model.failing?.limit.code === limit.code ? model.failing : null;
  model.failing = { since: same?.since ?? now, count: (same?.count ?? 0) + 1, limit };
  if (isHopeless(model.failing, now, model.settings.patienceMs)) end(model, limit);
}

/** So many at least, however long they took: between two of them an agent may have worked for an hour. */
const patientMin = 3;

function isHopeless(
  { since, count, limit }: NonNullable<Model["failing"]>,
  now: number,
  patienceMs: number,
): boolean {
  if (limit.code === "credential_refused") return count >= refusedMax;
  if (limit.code === "model_unknown") return count >= unknownMax;
  const far = limit.resetAt !== null && limit.resetAt - now > soonMs;
  if (limit.code === "quota_reached" && far) return true;
  return count >= failuresMax || (count >= patientMin && now - since > patienceMs);
}

/** Ends the agent for want of its model: `limitHit` hears of it, once. */
export function end(model: Model, limit: LimitHit) {
  if (model.ended) return;
  model.ended = limit;
  model.on.limitHit(limit);
}
