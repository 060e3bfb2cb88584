import type { Context } from "hono";
import { streamSSE } from "hono/streaming";
import type { Clock } from "../protocol/clock.ts";
import type { StreamMessage } from "../protocol/stream.ts";
import { protocolVersion } from "../protocol/version.ts";
import type { Daemon } from "../state/daemon.ts";
import type { Wake } from "../state/wake.ts";

/** Between two signs of life on a stream, in milliseconds. */
const heartbeatMs = 15_000;

/**
 * What is said over a daemon's stream: each message only wakes, the truth is asked for by POST. `isKnown`:
 * whether its token still counts; the stream ends where it does not.
 */
export function openStream(
  c: Context,
  daemon: Daemon,
  { wake, clock }: { wake: Wake; clock: Clock },
  isKnown: () => Promise<boolean>,
) {
  c.header("X-Accel-Buffering", "no");
  return streamSSE(c, async (stream) => {
    const closed = new AbortController();
    stream.onAbort(() => closed.abort());
    const send = (message: StreamMessage) =>
      stream.writeSSE({ data: JSON.stringify(message) }).catch(() => stream.abort());
    const onOffer = (name: string) => {
      if (name === daemon.name) void send({ type: "wake" });
    };
    const forRun = (type: "cancel" | "message") => (name: string, run: string, attempt: number) => {
      if (name === daemon.name) void send({ type, run, attempt });
    };
    const [onCancel, onMessage] = [forRun("cancel"), forRun("message")];
    wake.on("offer", onOffer);
    wake.on("cancel", onCancel);
    wake.on("message", onMessage);
    await send({ type: "hello", protocol: protocolVersion });
    while (!stream.aborted && !stream.closed) {
      await clock.sleep(heartbeatMs, closed.signal);
      if (closed.signal.aborted) break;
      // A database that does not answer says nothing of the token.
      if (!(await isKnown().catch(() => true))) break;
      await stream.write(": still here\n\n");
    }
    wake.off("offer", onOffer);
    wake.off("cancel", onCancel);
    wake.off("message", onMessage);
  });
}
