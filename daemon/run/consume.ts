import type { Readable } from "node:stream";

const collectedBytesMax = 80 * 2 ** 20;

/** Hands a stream's chunks on until it ends, `signal` aborts, or `take` says that is all. */
export async function consume(
  stream: Readable,
  signal: AbortSignal,
  take: (chunk: Buffer) => Promise<boolean>,
) {
  const end = () => stream.destroy();
  signal.addEventListener("abort", end, { once: true });
  let failure: { error: unknown } | null = null;
  try {
    for await (const chunk of stream) {
      const enough = await take(chunk as Buffer).catch((error) => {
        failure = { error };
        return true;
      });
      if (enough) break;
    }
  } catch {
    // The tunnel broke or was closed: whoever opened it decides what now.
  } finally {
    signal.removeEventListener("abort", end);
    stream.destroy();
  }
  if (failure) throw (failure as { error: unknown }).error;
}

/** A stream's bytes, up to 80 MB of them. */
export async function collected(stream: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  await consume(stream, new AbortController().signal, async (chunk) => {
    chunks.push(chunk);
    bytes += chunk.length;
    return bytes > collectedBytesMax;
  });
  return Buffer.concat(chunks);
}
