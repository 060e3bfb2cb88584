import type { z } from "zod";
import { down } from "../../app/protocol/down.ts";
import type { Refusal } from "../../app/protocol/refusal.ts";
import type { TokenPurpose } from "../../app/protocol/token.ts";
import type { up } from "../../app/protocol/up.ts";

/** The app did not do what was asked; `passing`: it may do so when asked again. */
export class ServerError extends Error {
  /** `unreachable` when no answer came, `broken` when it is not understood, else what the app said. */
  readonly code: Refusal["code"] | "unreachable" | "broken";
  constructor(code: ServerError["code"], message: string) {
    super(message);
    this.code = code;
  }
  /**
   * Whether the same request may succeed later. A token that is not known says nothing of a run: with another one
   * the daemon goes on with it.
   */
  get passing(): boolean {
    return ["unreachable", "broken", "gap", "unauthorized"].includes(this.code);
  }
}

const requestMsMax = 20_000;

type Up<Name extends keyof typeof up> = z.infer<(typeof up)[Name]>;
type Down<Name extends keyof typeof down> = z.infer<(typeof down)[Name]>;

/** The app, as the daemon sees it: one method an endpoint. Each rejects with ServerError. */
export type Server = {
  hello(hello: Up<"hello">, signal: AbortSignal): Promise<Down<"hello">>;
  claim(key: string, signal: AbortSignal): Promise<Down<"claim">>;
  renew(runId: string, renew: Up<"renew">, signal: AbortSignal): Promise<Down<"renew">>;
  events(runId: string, events: Up<"events">, signal: AbortSignal): Promise<Down<"events">>;
  token(
    runId: string,
    request: { attempt: number; purpose: TokenPurpose; fresh: boolean },
    signal: AbortSignal,
  ): Promise<Down<"token">>;
  settle(runId: string, end: Up<"settle">, signal: AbortSignal): Promise<Down<"settle">>;
  /** The stream of wake-ups; its body ends when the connection does. */
  stream(signal: AbortSignal): Promise<Response>;
};

/** Connects to the app at `url`; nothing is asked of it yet. `transport`: what carries the requests. */
export function connectServer(url: string, token: string, transport: typeof fetch = fetch): Server {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  async function post<Answer extends z.ZodType>(
    path: string,
    body: unknown,
    answer: Answer,
    signal: AbortSignal,
  ): Promise<z.infer<Answer>> {
    const response = await request(transport, `${url}/api/daemon/${path}`, {
      method: "POST",
      headers,
      body: JSON.stringify(body),
      signal: AbortSignal.any([signal, AbortSignal.timeout(requestMsMax)]),
    });
    const parsed = answer.safeParse(await bodyOf(response));
    if (!parsed.success)
      throw new ServerError("broken", `${path}: the app's answer is not understood`);
    return parsed.data;
  }
  const run = (id: string, endpoint: string) => `runs/${id}/${endpoint}`;
  return {
    hello: (hello, signal) => post("hello", hello, down.hello, signal),
    claim: (key, signal) => post("claim", { key }, down.claim, signal),
    renew: (id, renew, signal) => post(run(id, "renew"), renew, down.renew, signal),
    events: (id, events, signal) => post(run(id, "events"), events, down.events, signal),
    token: (id, wanted, signal) => post(run(id, "token"), wanted, down.token, signal),
    settle: (id, end, signal) => post(run(id, "settle"), end, down.settle, signal),
    stream: (signal) => request(transport, `${url}/api/daemon/stream`, { headers, signal }),
  };
}

async function request(
  transport: typeof fetch,
  url: string,
  options: RequestInit,
): Promise<Response> {
  let response: Response;
  try {
    response = await transport(url, options);
  } catch (error) {
    const cause = error instanceof Error && error.cause ? error.cause : error;
    throw new ServerError(
      "unreachable",
      `${new URL(url).origin} does not answer: ${String(cause)}`,
    );
  }
  if (response.ok) return response;
  const refusal = down.refusal.safeParse(await bodyOf(response));
  if (refusal.success) throw new ServerError(refusal.data.code, refusal.data.error);
  throw new ServerError("broken", `${new URL(url).pathname}: HTTP ${response.status}`);
}

/** What is no JSON is null, which no answer is. */
async function bodyOf(response: Response): Promise<unknown> {
  return await response.json().catch(() => null);
}
