import { connect } from "node:net";
import { pause } from "./process.ts";
import { stop } from "./stop.ts";

export const gatewayPort = 3128;
/** How long a step waits for the daemon once the run was stopped. */
const stoppedAwayMs = 10_000;
/** A clone or push that fails is tried again this often, with a pause. */
const gatewayTriesMax = 4;
const gatewayPauseMs = 500;
/** And while the daemon has trouble of its own, in milliseconds. */
const troublePauseMs = 5_000;
/** What git prints then: there is no room on the daemon's disk, or it went in the middle. It passes. */
const troubleWords =
  /^remote: .*(no space left|unable to create temporary)|^error: remote unpack failed: unable to create temporary|HTTP 5\d\d|error: 5\d\d|hung up|early EOF|unexpected disconnect|failed to connect|connection re(set|fused)/im;
/** What it prints of a refusal of the gate's, which asking again does not change. */
const refusalWords = /hook declined|fsck error|exceeds maximum|HTTP 4\d\d|error: 4\d\d/i;

/** Whether a failure is the daemon's own and may pass, by what git printed; a refusal of the gate's is not. */
export const isTrouble = (output: string): boolean =>
  troubleWords.test(output) && !refusalWords.test(output);

/**
 * Runs what needs the gateway, again when it fails: the daemon may have gone in the middle, and be back in a
 * moment. Each try waits for it as `gatewayIsThere` does; what is trouble of the daemon's own is tried for as long.
 */
export async function throughGateway(
  awayMs: number,
  work: () => Promise<{ exit: number; output: string }>,
  { given, triesMax = gatewayTriesMax }: { given?: AbortSignal; triesMax?: number } = {},
) {
  const since = Date.now();
  for (let tries = 1; ; tries++) {
    await gatewayIsThere(awayMs, given);
    if (given?.aborted) return { exit: 1, output: "stopped" };
    const result = await work();
    if (result.exit === 0) return result;
    const patienceMs = stop.signal.aborted ? stoppedAwayMs : awayMs;
    const again = isTrouble(result.output) && Date.now() - since < patienceMs;
    if (tries < triesMax) await pause(gatewayPauseMs);
    else if (again) await pause(troublePauseMs);
    else return result;
  }
}

/** Resolves when the gateway answers, or when it has been waited for in vain, for `awayMs` milliseconds. */
export async function gatewayIsThere(awayMs: number, given?: AbortSignal) {
  const since = Date.now();
  const waited = () => Date.now() - since;
  while (waited() < awayMs && !given?.aborted && !(await answers())) {
    if (stop.signal.aborted && waited() > stoppedAwayMs) return;
    await pause(4);
  }
}

function answers(): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(gatewayPort, "127.0.0.1");
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });
}
