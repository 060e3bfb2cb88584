import { z } from "zod";
import {
  ClaimAnswer,
  type Events,
  EventsAnswer,
  type Hello,
  HelloAnswer,
  Refusal,
  RenewAnswer,
  type Settle,
  TokenAnswer,
  type TokenPurpose,
} from "../../app/protocol/wire.ts";

/** The app did not do what was asked. */
export class ServerError extends Error {
  /** `unreachable` when no answer came, else what the app said. */
  readonly code: z.infer<typeof Refusal>["code"] | "unreachable" | "broken";
  constructor(code: ServerError["code"], message: string) {
    super(message);
    this.code = code;
  }
  /** Whether the same request may succeed later. */
  get passing(): boolean {
    return this.code === "unreachable" || this.code === "broken" || this.code === "gap";
  }
}

const requestMsMax = 20_000;

/** The app, as the daemon sees it: one method a door. */
export type Server = ReturnType<typeof connectServer>;

export function connectServer(url: string, token: string) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  async function post<T extends z.ZodType>(
    path: string,
    body: unknown,
    answer: T,
    signal: AbortSignal,
  ): Promise<z.infer<T>> {
    const response = await request(`${url}/api/daemon/${path}`, {
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
  const run = (id: string, door: string) => `runs/${id}/${door}`;
  return {
    hello: (hello: Hello, signal: AbortSignal) => post("hello", hello, HelloAnswer, signal),
    claim: (key: string, signal: AbortSignal) => post("claim", { key }, ClaimAnswer, signal),
    renew: (id: string, attempt: number, told: number, signal: AbortSignal) =>
      post(run(id, "renew"), { attempt, told }, RenewAnswer, signal),
    events: (id: string, events: z.infer<typeof Events>, signal: AbortSignal) =>
      post(run(id, "events"), events, EventsAnswer, signal),
    token: (id: string, attempt: number, purpose: TokenPurpose, signal: AbortSignal) =>
      post(run(id, "token"), { attempt, purpose }, TokenAnswer, signal),
    settle: (id: string, end: Settle, signal: AbortSignal) =>
      post(run(id, "settle"), end, z.object({ settled: z.literal(true) }), signal),
    /** The stream of wake-ups; its body ends when the connection does. */
    stream: (signal: AbortSignal) => request(`${url}/api/daemon/stream`, { headers, signal }),
  };
}

async function request(url: string, options: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    const cause = error instanceof Error && error.cause ? error.cause : error;
    throw new ServerError(
      "unreachable",
      `${new URL(url).origin} does not answer: ${String(cause)}`,
    );
  }
  if (response.ok) return response;
  const refusal = Refusal.safeParse(await bodyOf(response));
  if (refusal.success) throw new ServerError(refusal.data.code, refusal.data.error);
  throw new ServerError("broken", `${new URL(url).pathname}: HTTP ${response.status}`);
}

async function bodyOf(response: Response): Promise<unknown> {
  return await response.json().catch(() => null);
}
