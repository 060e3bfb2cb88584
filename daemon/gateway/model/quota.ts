type Headers = Record<string, string | string[] | undefined>;

/** Further ahead than any service's window: then the number means something else. */
const aheadMsMax = 35 * 24 * 3_600_000;

/**
 * When a service says that it takes requests again, in milliseconds since 1970; null: it does not say.
 * Anthropic's `anthropic-ratelimit-unified-reset`, OpenAI's `x-ratelimit-reset-*` and `resets_at`, Gemini's
 * `retryDelay`, and HTTP's own `retry-after`.
 */
export function resetOf(headers: Headers, body: string, now: number): number | null {
  const header = (name: string): string => String(headers[name] ?? "");
  // It names the end of the window also when only a burst was too fast.
  const rejected = header("anthropic-ratelimit-unified-status") === "rejected";
  const seconds = rejected ? Number(header("anthropic-ratelimit-unified-reset")) : 0;
  const told = /"resets_at"\s*:\s*(\d{9,11})/.exec(body)?.[1];
  const left = /"resets_in_seconds"\s*:\s*(\d+)/.exec(body)?.[1];
  const delay = /"retryDelay"\s*:\s*"([\d.]+)s"/.exec(body)?.[1];
  const candidates = [
    seconds > 0 ? seconds * 1000 : null,
    told ? Number(told) * 1000 : null,
    left ? now + Number(left) * 1000 : null,
    retryAfter(header("retry-after"), now),
    delay ? now + Number(delay) * 1000 : null,
    lengthOf(header("x-ratelimit-reset-tokens"), now),
    lengthOf(header("x-ratelimit-reset-requests"), now),
  ];
  const first = candidates.find((at) => at !== null && at > now && at - now < aheadMsMax);
  return first === undefined || first === null ? null : Math.round(first);
}

/** Seconds, or a date (RFC 9110, 10.2.3). */
function retryAfter(value: string, now: number): number | null {
  if (/^\d+(\.\d+)?$/.test(value)) return now + Number(value) * 1000;
  const at = Date.parse(value);
  return Number.isNaN(at) ? null : at;
}

/** `1s`, `6m0s`, `2h3m`, `120ms`. */
function lengthOf(value: string, now: number): number | null {
  if (!/^(?:\d+(?:\.\d+)?(?:ms|h|m|s))+$/.test(value)) return null;
  const units: Record<string, number> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 };
  let ms = 0;
  for (const [, amount, unit] of value.matchAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g))
    ms += Number(amount) * (units[unit ?? ""] ?? 0);
  return now + ms;
}
