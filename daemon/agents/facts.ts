import { countMax, type Fact, sayMax, targetMax } from "../../app/protocol/event.ts";
import type { FailureCode } from "../../app/protocol/failure.ts";
import type { AgentEnd, Problem, Spent } from "./adapter.ts";

// What the adapters have in common: from an agent's words to facts, without what may not be told.

const itemsMax = 50;
const itemMax = 300;
const toolMax = 80;
const pathMax = 500;
const headWordsMax = 4;
const headMax = 60;
const problemMax = 1_000;
/** Beyond this a line is not taken apart: what is worth telling is short. */
const lineMax = 8 * 2 ** 20;

export type Row = Record<string, unknown>;

/** Parses a line as an object; null for anything else, half a line of a crash among them. */
export function parseRow(line: string): Row | null {
  if (line.length > lineMax || !line.trimStart().startsWith("{")) return null;
  try {
    return row(JSON.parse(line));
  } catch {
    // Not JSON: an agent prints what it likes.
    return null;
  }
}

/** The value as an object, an empty one where it is none. */
export const row = (value: unknown): Row =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Row) : {};
/** The value as a list, an empty one where it is none. */
export const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
/** The value as text, empty where it is none. */
export const text = (value: unknown): string => (typeof value === "string" ? value : "");
/** The value as a count: a number from 0 up to what an event may carry, 0 where it is none. */
export const number = (value: unknown): number =>
  typeof value === "number" && Number.isFinite(value) && value >= 0 ? Math.min(value, countMax) : 0;

/** Never over the end of a line: blank lines without end would be gone through again and again. */
const asking = /^[ \t]*::ask(?: [^:\n]*)?::[ \t]*(\S.*)$/m;
/** Beyond it an agent's words are not looked through. */
const wordsMax = 64 * 1024;

/** An agent's words, and the question among them when it asks one: a line `::ask:: …`. */
export function said(all: string): Fact[] {
  const words = all.slice(0, wordsMax);
  const question = asking.exec(words)?.[1]?.trim();
  const rest = words.replace(asking, "").trim();
  return [
    ...(rest ? [{ type: "say" as const, text: rest.slice(0, sayMax) }] : []),
    ...(question ? [{ type: "ask" as const, text: question.slice(0, sayMax) }] : []),
  ];
}

/** The use of a tool, with what it was called for, cut to what an event may carry. */
export function tool(name: string, target: string): Fact[] {
  const clean = oneLine(name).slice(0, toolMax);
  return clean ? [{ type: "tool", name: clean, target: oneLine(target).slice(0, targetMax) }] : [];
}

/** An edit of a file: its lines are counted, never told. */
export function edit(path: unknown, before: string | null, after: string | null): Fact[] {
  const file = placeOf(path);
  if (!file) return [];
  const counted = before === null || after === null ? null : changedLines(before, after);
  const added = counted?.added ?? null;
  return [{ type: "edit", path: file, added, removed: counted?.removed ?? null }];
}

function plan(items: { text: string; done: boolean }[]): Fact[] {
  const kept = items
    .map((item) => ({ text: oneLine(item.text).slice(0, itemMax), done: item.done }))
    .filter((item) => item.text)
    .slice(0, itemsMax);
  return kept.length > 0 ? [{ type: "plan", items: kept }] : [];
}

/** The list of what is to be done, as most agents have it: `content` and `status`, or other names. */
export function todos(value: unknown, words = "content", state = "status"): Fact[] {
  return plan(
    list(value).map((one) => {
      const item = row(one);
      return { text: text(item[words]), done: item[state] === "completed" || item[state] === true };
    }),
  );
}

/** The path below the repository of a path in the container. */
export function placeOf(path: unknown): string {
  return oneLine(text(path))
    .replace(/^\/workspace\//, "")
    .slice(0, pathMax);
}

/**
 * The beginning of a command: program and first words. It ends before anything that could carry
 * contents: a quotation, a redirection, a variable, the next command.
 */
export function commandHead(command: string): string {
  const [line = ""] = unwrapped(command).trim().split("\n");
  const words: string[] = [];
  for (const word of line.split(/\s+/)) {
    if (/["'`<>|;&$(){}\\=]/.test(word) || words.length >= headWordsMax) break;
    words.push(word);
  }
  const head = words.join(" ").slice(0, headMax);
  const whole = head === line.trim() && unwrapped(command).trim() === line.trim();
  return whole ? head : `${head} …`.trim();
}

/** Without the shell that an agent runs it in: `/bin/bash -lc '…'`. */
function unwrapped(command: string): string {
  const inner = /^(?:\/\S*\/)?(?:ba|z|da)?sh\s+-l?c\s+(["']?)([\s\S]*)\1$/.exec(command.trim());
  return inner?.[2] ?? command;
}

/** Lines added and removed between two texts, by what is left between a common beginning and end. */
export function changedLines(before: string, after: string): { added: number; removed: number } {
  const [old, fresh] = [linesOf(before), linesOf(after)];
  let same = 0;
  while (same < old.length && same < fresh.length && old[same] === fresh[same]) same += 1;
  let tail = 0;
  const room = Math.min(old.length, fresh.length) - same;
  while (tail < room && old.at(-1 - tail) === fresh.at(-1 - tail)) tail += 1;
  return { added: fresh.length - same - tail, removed: old.length - same - tail };
}

const linesOf = (value: string): string[] =>
  value === "" ? [] : value.replace(/\n$/, "").split("\n");

/** What an agent has spent beyond `before`, as a fact. */
export function usage(spent: Spent, before: Spent): Fact {
  const less = (name: keyof Spent) =>
    // One that counts less than before has begun to count anew.
    Math.min(
      countMax,
      Math.round(spent[name] < before[name] ? spent[name] : spent[name] - before[name]),
    );
  return {
    type: "usage",
    inputTokens: less("inputTokens"),
    cachedTokens: less("cachedTokens"),
    outputTokens: less("outputTokens"),
    costMicroUsd: less("costMicroUsd"),
  };
}

/** The sum of two counts of what was spent. */
export const plus = (a: Spent, b: Spent): Spent => ({
  inputTokens: a.inputTokens + b.inputTokens,
  cachedTokens: a.cachedTokens + b.cachedTokens,
  outputTokens: a.outputTokens + b.outputTokens,
  costMicroUsd: a.costMicroUsd + b.costMicroUsd,
});

/** What was spent, from counts of tokens and a cost in US dollars. */
export const spentOf = (input: number, cached: number, output: number, usd: number): Spent => ({
  inputTokens: Math.round(input),
  cachedTokens: Math.round(cached),
  outputTokens: Math.round(output),
  costMicroUsd: Math.round(Math.min(usd * 1_000_000, countMax)),
});

/** What a service's refusal means, by its status and words. Null: nothing that has a name. */
export function refusalCode(status: number | null, words: string): FailureCode | null {
  if (status === 401 || status === 403) return "credential_refused";
  if (status === 402 || status === 429) return "quota_reached";
  if (status === 404) return "model_unknown";
  if (status !== null && status >= 500) return "model_overloaded";
  if (
    /\b401\b|unauthori[sz]ed|authentication|invalid (?:x-)?api[- ]key|api key not valid|API_KEY_INVALID|UNAUTHENTICATED/i.test(
      words,
    )
  )
    return "credential_refused";
  if (/\b429\b|rate.?limit|quota|usage limit|credit balance/i.test(words)) return "quota_reached";
  if (/model.{0,40}(?:not found|not exist|not supported|unknown)|no such model/i.test(words))
    return "model_unknown";
  if (
    /\b5\d\d\b|overloaded|high demand|stream (?:closed|disconnected)|terminated|ECONN|timed? ?out/i.test(
      words,
    )
  )
    return "model_overloaded";
  return null;
}

/** The problem of an agent that said itself that it failed. */
export function failedWith(words: string, status: number | null = null): Problem {
  const clean = words.trim().slice(0, problemMax) || "it gave no reason";
  return { code: refusalCode(status, words) ?? "agent_failed", text: clean };
}

/** The problem of an agent that ended without a last word. */
export function endedEarly({ exit, signal }: AgentEnd, lastError: string): Problem {
  const how =
    exit === null ? `the agent was ended by ${signal}` : `the agent ended with exit ${exit}`;
  const known = lastError ? refusalCode(null, lastError) : null;
  const why = lastError ? `${lastError.trim().slice(0, problemMax)}\n` : "";
  return {
    code: known ?? "agent_crashed",
    text: `${why}${how}, without the event that says it was done`,
  };
}

function oneLine(value: string): string {
  return value
    .replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gu, " ")
    .replace(/\s+/g, " ")
    .trim();
}
