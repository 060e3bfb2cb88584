/** An ordinal number: `2nd`, `11th`. */
export function ordinal(number: number): string {
  const teen = number % 100 >= 11 && number % 100 <= 13;
  const ending = teen ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}

/** A length in milliseconds that is only an estimate: `40 s`, `4 min`, `2 h`. */
export function roughly(ms: number): string {
  if (ms < 60_000) return `${Math.max(10, Math.ceil(ms / 10_000) * 10)} s`;
  const minutes = Math.round(ms / 60_000);
  return minutes < 90 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** Tokens and cost, such as `41k tokens` and `$0.62`; nothing for null and for zero. */
export function usageWords(usage: Usage | null): string[] {
  if (!usage) return [];
  const tokens = usage.inputTokens + usage.outputTokens;
  const amount = tokens < 1_000 ? String(tokens) : `${Math.round(tokens / 1_000)}k`;
  const cost = usage.costMicroUsd / 1_000_000;
  return [
    ...(tokens > 0 ? [`${amount} tokens`] : []),
    ...(cost > 0 ? [`$${cost < 0.01 ? cost.toFixed(4) : cost.toFixed(2)}`] : []),
  ];
}
/** What a run has used: tokens, and millionths of a US dollar. */
export type Usage = { inputTokens: number; outputTokens: number; costMicroUsd: number };

/** A length in milliseconds, such as `3 min 12 s` or `0.4 s`: rounded so that two numbers are enough. */
export function duration(ms: number): string {
  if (ms < 10_000) return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** A number with its noun: `1 commit`, `2 commits`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
