import { open, watch } from "node:fs/promises";
import { createServer } from "node:net";
import { Mux, type MuxStream, type Purpose } from "./mux.ts";

// The container's end of its only connection. Listens on 127.0.0.1 and carries every connection over
// stdio to the daemon, which also reads the run's files through it. Ends when stdin does: without a
// daemon there is no way out.

const port = 3128;
/** How often a followed file is looked at when no change is announced. */
const lookEveryMs = 250;
const readBytes = 64 * 1024;
/** What may be read through here; all of it is the run's own. */
const folder = "/var/lib/trimo/";

const mux = new Mux(process.stdin, process.stdout, "container", (purpose, stream) => {
  serveFile(purpose, stream).catch((error) => stream.destroy(error));
});
process.stdin.on("end", () => process.exit(0));
process.stdin.on("error", () => process.exit(0));
process.stdout.on("error", () => process.exit(0));

const server = createServer({ allowHalfOpen: true }, (socket) => {
  const stream = mux.open({ kind: "connection" });
  socket.setNoDelay(true);
  socket.pipe(stream);
  stream.pipe(socket);
  socket.on("error", () => stream.destroy());
  stream.on("error", () => socket.destroy());
  socket.on("close", () => !stream.writableFinished && stream.destroy());
  stream.on("close", () => !socket.writableFinished && socket.destroy());
});
server.on("error", (error) => {
  process.stderr.write(`the tunnel cannot listen on 127.0.0.1:${port}: ${error.message}\n`);
  process.exit(1);
});
server.listen(port, "127.0.0.1");

async function serveFile(purpose: Purpose, stream: MuxStream) {
  if (purpose.kind === "connection" || !purpose.path.startsWith(folder)) return stream.destroy();
  const gone = new AbortController();
  stream.on("close", () => gone.abort());
  // Its close, which follows, is heard above.
  stream.on("error", () => {});
  stream.resume();
  const file = await opened(purpose.path, purpose.kind === "tail", gone.signal);
  if (!file) return stream.destroy();
  try {
    await copy(file, stream, purpose, gone.signal);
  } finally {
    await file.close();
  }
}

async function opened(path: string, wait: boolean, signal: AbortSignal) {
  for (;;) {
    const file = await open(path, "r").catch(() => null);
    if (file || !wait || signal.aborted) return file;
    await pause(20);
  }
}

async function copy(
  file: Awaited<ReturnType<typeof open>>,
  stream: MuxStream,
  purpose: { kind: "tail" | "read"; path: string; offset: number },
  signal: AbortSignal,
) {
  const buffer = Buffer.alloc(readBytes);
  const changes = purpose.kind === "tail" ? announce(purpose.path, signal) : null;
  const size = purpose.offset < 0 ? (await file.stat()).size : 0;
  for (let at = Math.max(0, size + purpose.offset); !signal.aborted; ) {
    const { bytesRead } = await file.read(buffer, 0, readBytes, at);
    at += bytesRead;
    if (bytesRead > 0) {
      const free = stream.write(Buffer.from(buffer.subarray(0, bytesRead)));
      if (!free) await drained(stream, signal);
    } else if (changes) await changes.next();
    else break;
  }
  if (!stream.destroyed) stream.end();
}

function drained(stream: MuxStream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    stream.once("drain", resolve);
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

/** Resolves when the file may have grown: told by the kernel, or after a while. */
function announce(path: string, signal: AbortSignal): { next(): Promise<void> } {
  const state = { changed: false, wake: () => {} };
  void (async () => {
    for await (const _ of watch(path, { signal })) {
      state.changed = true;
      state.wake();
    }
    // Its end, by the signal or for want of watches: a pause finds what has grown.
  })().catch(() => {});
  return {
    async next() {
      if (!state.changed)
        await new Promise<void>((resolve) => {
          state.wake = resolve;
          setTimeout(resolve, lookEveryMs);
        });
      state.changed = false;
    },
  };
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
