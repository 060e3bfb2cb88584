import { failureDetailMax } from "../../app/protocol/failure.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import type { Settle } from "../../app/protocol/settle.ts";
import { cleanEnd, redact } from "../redact.ts";
import { ServerError } from "../server/client.ts";
import type { Attempt, Parts } from "./attempt.ts";
import type { Ending } from "./verdict.ts";

const retry = { baseMs: 200, mostMs: 10_000 };
/** Until an end that the app refuses is brought before it again, by a new hello. */
const refusedPauseMs = 60_000;

/** What is told of the branch beside the end; see `Settle`. */
type Branch = Pick<Settle, "head" | "changed" | "quota">;

export const nothingPushed: Branch = { head: null, changed: false, quota: null };

/** Closes the outbox and makes the message of the run's end: its detail masked, and cut to the wire's limit. */
export function closeWith(
  { job, outbox, secrets }: Attempt,
  ending: Ending,
  branch: Branch,
): Settle {
  if (ending.outcome !== "declined") outbox.add({ type: "stage", stage: "cleaning" });
  outbox.close();
  const { outcome, failure } = ending;
  const detail = failure && cleanEnd(redact(failure.detail, secrets), failureDetailMax);
  return {
    attempt: job.attempt,
    lastSeq: outbox.lastSeq,
    outcome,
    failure: failure && { code: failure.code, detail: detail ?? "" },
    ...branch,
  };
}

/**
 * Tells the app every event, and then the end, until it has them or `signals.over` aborts. Gives whether the app
 * took the end; where it refuses, its answer to the next hello says what becomes of the run.
 */
export async function settle(
  { server, clock, log }: Parts,
  { job, outbox, signals }: Attempt,
  end: Settle,
): Promise<boolean> {
  const { over } = signals;
  await outbox.delivered(over);
  const state = new RunningState(clock, over);
  while (state.running) {
    try {
      // As many as there are: a daemon that was given up had not counted them.
      await server.settle(job.run, { ...end, lastSeq: outbox.lastSeq }, over);
      log.info({ run: job.run, outcome: end.outcome, failure: end.failure?.code }, "settled");
      return true;
    } catch (error) {
      if (!state.running) return false;
      if (!(error instanceof ServerError) || !error.passing) {
        log.error({ err: error, run: job.run }, "the app did not take the run's end");
        await state.sleep(refusedPauseMs);
        return false;
      }
      await state.backOff(retry);
    }
  }
  return false;
}
