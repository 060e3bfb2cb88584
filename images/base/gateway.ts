import { connect } from "node:net";
import { pause } from "./process.ts";
import { stop } from "./stop.ts";

export const gatewayPort = 3128;
/** How long the steps that need the daemon wait for it to come back. */
const daemonAwayMs = 30 * 60_000;
/** A clone or push that fails is tried again this often, with a pause. */
const gatewayTriesMax = 4;
const gatewayPauseMs = 500;

/**
 * Runs what needs the gateway, again when it fails: the daemon may have gone in the middle, and be back in a
 * moment.
 */
export async function throughGateway(
  work: () => Promise<{ exit: number; output: string }>,
  given?: AbortSignal,
) {
  for (let tries = 1; ; tries++) {
    await gatewayIsThere(given);
    if (given?.aborted) return { exit: 1, output: "stopped" };
    const result = await work();
    if (result.exit === 0 || tries >= gatewayTriesMax) return result;
    await pause(gatewayPauseMs);
  }
}

/** Resolves when the gateway answers; false when it does not come in time. */
export async function gatewayIsThere(given?: AbortSignal) {
  const until = Date.now() + daemonAwayMs;
  while (Date.now() < until && !given?.aborted && !(await answers())) {
    if (stop.signal.aborted && Date.now() > until - daemonAwayMs + 10_000) return;
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
