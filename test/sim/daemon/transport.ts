import type { Parts } from "../machine.ts";
import { createNetwork, isCut } from "../network.ts";
import type { Process } from "../world.ts";

type From = Parts & { process: Process; name: string; token: string };

const lookMs = 500;

/** What a daemon's client takes for `fetch`: the app's own routes, behind a network that breaks. */
export function createTransport(parts: From): typeof fetch {
  const { process } = parts;
  const post = createNetwork(parts);
  const answer = async (path: string, { body, signal }: RequestInit): Promise<Response> => {
    if (path === "stream") return await openStream(parts, signal ?? null);
    const { status, body: read } = await post(path, JSON.parse(String(body)) as object);
    return new Response(JSON.stringify(read), { status });
  };
  const guarded = process.guard(answer);
  return async (url, options = {}) => {
    const path = new URL(String(url)).pathname.replace("/api/daemon/", "");
    const { signal } = options;
    if (!signal) return await guarded(path, options);
    signal.throwIfAborted();
    return await Promise.race([guarded(path, options), rejected(signal)]);
  };
}

function rejected(signal: AbortSignal): Promise<never> {
  const ended = new Promise<never>((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
  // The answer came first.
  ended.catch(() => {});
  return ended;
}

/** The app's stream; without a network its bytes are late. */
async function openStream(parts: From, signal: AbortSignal | null): Promise<Response> {
  const { world, process, stream, token } = parts;
  if (isCut(parts)) throw new Error("unreachable");
  const inner = await stream(token);
  if (!inner.ok || !inner.body) return inner;
  const late = new TransformStream({
    async transform(chunk, controller) {
      world.touch();
      while (isCut(parts)) await process.pause(lookMs);
      controller.enqueue(chunk);
    },
  });
  const body = inner.body.pipeThrough(late, signal ? { signal } : {});
  return new Response(body, { status: inner.status });
}
