/** What the outside may want of a run under way. */
export type Controls = {
  /** Aborted when somebody has cancelled the run: the agent is stopped and its work kept. */
  cancel: AbortController;
  /** The daemon goes: leave everything as it is. */
  leave: AbortSignal;
  /** What renews the run's lease at once; empty while nothing keeps it. */
  renewals: Set<() => void>;
  /** Called when the run holds no container any more, though it is not over. */
  onContainerGone: () => void;
};

/** Renews the run's lease at once, which also brings the messages that wait for it. */
export function renewNow({ renewals }: Pick<Controls, "renewals">) {
  for (const renew of renewals) renew();
}

/**
 * The ends of one attempt, and who asks for them:
 *
 *   stop     the agent is to stop and its work is kept: cancelled, or a limit was hit
 *   abandon  the attempt is no longer this daemon's: stop the container before somebody else begins
 *   leave    the daemon goes: the container works on, and the next daemon finds it
 *
 * `over` joins the last two: nothing more is asked of the app, git or Docker for this attempt.
 */
export class Signals {
  /** Somebody has cancelled the run. */
  readonly cancel: AbortSignal;
  readonly leave: AbortSignal;
  readonly stop: AbortSignal;
  readonly over: AbortSignal;
  readonly #limit = new AbortController();
  readonly #abandon = new AbortController();
  readonly #finished = new AbortController();

  constructor({ cancel, leave }: Pick<Controls, "cancel" | "leave">) {
    this.cancel = cancel.signal;
    this.leave = leave;
    this.stop = AbortSignal.any([cancel.signal, this.#limit.signal]);
    this.over = AbortSignal.any([leave, this.#abandon.signal, this.#finished.signal]);
  }

  /** Aborts when the attempt is no longer this daemon's. */
  get abandon(): AbortSignal {
    return this.#abandon.signal;
  }

  /** Stops the agent: its model gives no more, or it has used up what it may. */
  hitLimit() {
    this.#limit.abort();
  }

  /** Gives the attempt up: its lease is lost, or the app has ended it. */
  lose(why: string) {
    this.#abandon.abort(why);
  }

  /** Ends the attempt's loops; there is nothing left to do. */
  finish() {
    this.#finished.abort();
  }
}
