import type { Message } from "../../app/protocol/renew.ts";
import type { RunningState } from "../../app/protocol/running-state.ts";
import { type Server, ServerError } from "./client.ts";

/** The part of a lease after which it is renewed, and the most: people hear of a silent daemon after a minute. */
const renewAfter = 1 / 6;
const renewEveryMsMax = 20_000;
/** Left for stopping the container before the lease ends and somebody else may begin, in milliseconds. */
const stopMs = 30_000;
const retry = { baseMs: 500, mostMs: 5_000 };

/** The attempt whose lease is kept; `leaseMs`: the lease's length in milliseconds. */
type Leased = { runId: string; attempt: number; leaseMs: number };

/** What a lease tells of its run. */
type LeaseHolder = {
  /** The app wants the run stopped. */
  onCancel(): void;
  /** The attempt is no longer this daemon's, or soon will not be. */
  onLost(why: string): void;
  /** The number of the last message that has come; 0: none. */
  received(): number;
  onMessages(messages: Message[]): void;
};

/** Renews an attempt's lease until `state` stops; `state.wake()` renews it at once. */
export async function keepLease(
  server: Server,
  { runId, attempt, leaseMs }: Leased,
  holder: LeaseHolder,
  state: RunningState,
) {
  const watched = watchEnd(state, leaseMs, holder);
  const renewEveryMs = Math.min(leaseMs * renewAfter, renewEveryMsMax);
  while (state.running) {
    if (state.failures === 0) await state.sleepUntilWoken(renewEveryMs);
    if (!state.running) return;
    const askedAt = state.clock.now();
    try {
      const request = { attempt, received: holder.received() };
      const answer = await server.renew(runId, request, state.signal);
      watched.goodFor(askedAt + answer.leaseMs);
      state.succeeded();
      if (answer.cancel) holder.onCancel();
      if (answer.messages.length > 0) holder.onMessages(answer.messages);
    } catch (error) {
      if (!state.running) return;
      if (!(error instanceof ServerError)) throw error;
      if (!error.passing) return holder.onLost(error.message);
      await state.backOff(retry);
    }
  }
}

/** Tells when the lease is about to end: by the clock, for a request that hangs would let it end meanwhile. */
function watchEnd({ clock, signal }: RunningState, leaseMs: number, holder: LeaseHolder) {
  let renewed = new AbortController();
  const watch = async (goodUntil: number, current: AbortController) => {
    const stop = AbortSignal.any([signal, current.signal]);
    await clock.sleep(goodUntil - stopMs - clock.now(), stop);
    if (!stop.aborted) holder.onLost("the app did not answer before the lease's end");
  };
  void watch(clock.now() + leaseMs, renewed);
  return {
    /** The lease holds until then, in milliseconds since 1970. */
    goodFor(goodUntil: number) {
      renewed.abort();
      renewed = new AbortController();
      void watch(goodUntil, renewed);
    },
  };
}
