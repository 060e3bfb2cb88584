/** GitHub did not do what was asked. Every foreign error of this folder leaves it as this one. */
export class GitHubError extends Error {
  /** The HTTP status; 0 when no answer came. */
  readonly status: number;
  /** How long GitHub asked to wait, in milliseconds; 0 when it did not. */
  readonly retryAfterMs: number;
  constructor(status: number, message: string, retryAfterMs: number) {
    super(message);
    this.status = status;
    this.retryAfterMs = retryAfterMs;
  }
  /** Whether the same request may succeed later. */
  get passing(): boolean {
    return this.status === 0 || this.status >= 500 || this.status === 429 || this.retryAfterMs > 0;
  }
}

/** The HTTP status of an Octokit error; 0 when it has none. */
export function statusOf(error: unknown): number {
  return error instanceof Error && "status" in error ? Number(error.status) : 0;
}

/** The answer of a request, or null when GitHub answers 404. Rejects with every other error. */
export async function orNull<T>(request: Promise<T>): Promise<T | null> {
  try {
    return await request;
  } catch (error) {
    if (statusOf(error) === 404) return null;
    throw error;
  }
}

/** An Octokit error as a GitHubError; `now` in milliseconds since 1970. */
export function translate(error: unknown, now: number): GitHubError {
  const status = statusOf(error);
  const message = error instanceof Error ? (error.message.split("\n")[0] ?? "") : String(error);
  const waitMs = retryAfterMs(status, headersOf(error), message, now);
  return new GitHubError(status, message.slice(0, 300), waitMs);
}

/**
 * What a handler threw: @octokit/webhooks gathers that in an AggregateError, each with its cause
 * (its source, `event-handler/receive.ts`).
 */
export function handlerError(error: unknown): unknown {
  if (!(error instanceof AggregateError)) return error;
  const inner = error.errors[0];
  return inner instanceof Error && inner.cause instanceof GitHubError ? inner.cause : inner;
}

type Headers = Record<string, string | number | undefined>;

function headersOf(error: unknown): Headers {
  const response = error instanceof Error && "response" in error ? error.response : undefined;
  return (response as { headers?: Headers } | undefined)?.headers ?? {};
}

/** GitHub, "Rate limits for the REST API": Retry-After, else the reset, else at least a minute. */
function retryAfterMs(status: number, headers: Headers, message: string, now: number): number {
  if (status !== 403 && status !== 429) return 0;
  if (headers["retry-after"]) return Number(headers["retry-after"]) * 1_000;
  if (String(headers["x-ratelimit-remaining"]) === "0" && headers["x-ratelimit-reset"])
    return Math.max(1_000, Number(headers["x-ratelimit-reset"]) * 1_000 - now);
  return status === 429 || /rate limit/i.test(message) ? 60_000 : 0;
}
