import type { Context } from "hono";
import { type SSEStreamingApi, streamSSE } from "hono/streaming";
import type { Reads } from "../app/state/database.ts";
import { factsAfter } from "../app/state/event.ts";
import { findRun, isOver } from "../app/state/run.ts";
import type { Wake } from "../app/state/wake.ts";
import { sentence } from "../app/view/sentence.ts";
import { clockTime } from "./run.tsx";

/** The most events sent in one piece. */
const pieceMax = 200;
/** Between two signs of life, in milliseconds. */
const heartbeatMs = 15_000;
/** Events after which the head of a run's page is taken anew. */
const heads = ["stage", "started", "claimed", "ended", "receipt", "commit"];

type Parts = {
  db: Reads;
  wake: Wake;
  clock: { sleep(ms: number, signal: AbortSignal): Promise<void> };
};

/** A run's events after the one with id `after`, as they are stored, until the run has ended. */
export function streamEvents(c: Context, { db, wake, clock }: Parts, id: string, after: number) {
  c.header("X-Accel-Buffering", "no");
  return streamSSE(c, async (stream) => {
    let woken = new AbortController();
    const onRun = (which: string) => {
      if (which === id) woken.abort();
    };
    wake.on("run", onRun);
    stream.onAbort(() => woken.abort());
    for (let last = after; !stream.aborted && !stream.closed; ) {
      woken = new AbortController();
      const sent = await sendPiece(stream, db, id, last);
      last = sent.last;
      if (sent.count === pieceMax) continue;
      const run = await findRun(db, id);
      if (!run || isOver(run.state)) {
        await stream.writeSSE({ event: "over", data: run?.state ?? "" });
        break;
      }
      await clock.sleep(heartbeatMs, woken.signal);
      if (!woken.signal.aborted) await stream.write(": still here\n\n");
    }
    wake.off("run", onRun);
  });
}

async function sendPiece(stream: SSEStreamingApi, db: Reads, id: string, after: number) {
  const piece = await factsAfter(db, id, after, pieceMax);
  for (const { id: factId, at, fact } of piece) {
    const data = {
      at,
      time: clockTime(at),
      text: sentence(fact),
      heads: heads.includes(fact.type),
    };
    await stream.writeSSE({ event: "fact", id: String(factId), data: JSON.stringify(data) });
  }
  return { last: piece.at(-1)?.id ?? after, count: piece.length };
}
