import type { Fact } from "../../app/protocol/event.ts";
import {
  type Adapter,
  type AgentEnd,
  type Launch,
  nothingSpent,
  type Problem,
  type Reader,
  type Spent,
} from "./adapter.ts";
import * as tell from "./facts.ts";

/** What a line of JSON means: `when` every path has its value, the rest names paths into the line. */
type Rule = {
  when: Record<string, string | number | boolean | null>;
  say?: string | undefined;
  tool?: string | undefined;
  target?: string | undefined;
  command?: string | undefined;
  edit?: string | undefined;
  ask?: string | undefined;
  input?: string | undefined;
  cached?: string | undefined;
  output?: string | undefined;
  usd?: string | undefined;
  error?: string | undefined;
  /** This line says that the work is done. */
  end?: boolean | undefined;
};

/**
 * Any command. Its output stays on the machine, but for lines in the form of GitHub's workflow
 * commands: `::notice::text`, `::warning::text` and `::error::text` are its words, `::ask::text` is a
 * question that ends the run as such, `::usage input=1200,output=300,cost=0.02::` what it has cost so
 * far, in tokens and US dollars. One that prints a JSON object a line says by rules what they mean.
 */
export function scriptAdapter(
  command: string[],
  rules: Rule[],
  sessionFiles: string[],
  modelEnv: (launch: Launch) => Record<string, string>,
): Adapter {
  return {
    start: (launch) => ({ command, env: modelEnv(launch) }),
    reader: () => reader(rules, sessionFiles.length > 0),
    sessionFiles,
    acceptsMessages: false,
    login: null,
  };
}

const spoken = /^::(notice|warning|error)(?: [^:]*)?::(.+)$/;
const asked = /^::ask(?: [^:]*)?::(.+)$/;
const used = /^::usage ([a-z0-9.,= ]+)::/;

function reader(rules: Rule[], remembers: boolean): Reader {
  let spent: Spent = nothingSpent;
  let done = false;
  let failure = "";
  const readRow = (event: tell.Row): Fact[] =>
    rules
      .filter(({ when }) =>
        Object.entries(when).every(([path, value]) => at(event, path) === value),
      )
      .flatMap((rule) => {
        if (rule.end) done = true;
        const wrong = rule.error === undefined ? "" : wordsAt(event, rule.error);
        if (wrong) failure = wrong;
        if ([rule.input, rule.cached, rule.output, rule.usd].every((path) => path === undefined))
          return ruleFacts(event, rule);
        spent = added(spent, event, rule);
        return [...ruleFacts(event, rule), tell.usage(spent, nothingSpent)];
      });
  return {
    read(line) {
      const event = rules.length > 0 ? tell.parseRow(line) : null;
      return event ? readRow(event) : plainFacts(line.trim());
    },
    end: (end) => judge(end, rules, done, failure),
    // It has no name for it: what it remembers by is enough.
    session: () => (remembers ? { id: "its-own", spent: nothingSpent } : null),
  };
}

function plainFacts(line: string): Fact[] {
  const question = asked.exec(line)?.[1]?.trim();
  if (question) return tell.said(`::ask:: ${question}`);
  const numbers = used.exec(line)?.[1];
  if (numbers) return [usage(numbers)];
  const words = spoken.exec(line)?.[2];
  return words ? tell.said(words) : [];
}

function usage(numbers: string): Fact {
  const of = (name: string) => {
    const value = Number(new RegExp(`(?:^|[ ,])${name}=([0-9.]+)`).exec(numbers)?.[1] ?? 0);
    return Number.isFinite(value) ? value : 0;
  };
  const spent = tell.spentOf(of("input"), of("cached"), of("output"), of("cost"));
  return tell.usage(spent, nothingSpent);
}

function ruleFacts(event: tell.Row, rule: Rule): Fact[] {
  const words = (path: string | undefined) => (path === undefined ? "" : wordsAt(event, path));
  const facts = [...tell.said(words(rule.say)), ...tell.edit(words(rule.edit), null, null)];
  const question = words(rule.ask).replace(/\s+/g, " ");
  if (question) facts.push(...tell.said(`::ask:: ${question}`));
  if (rule.tool === undefined) return facts;
  const target =
    rule.command === undefined
      ? tell.placeOf(words(rule.target))
      : tell.commandHead(words(rule.command));
  return [...facts, ...tell.tool(words(rule.tool), target)];
}

function added(spent: Spent, event: tell.Row, rule: Rule): Spent {
  const of = (path: string | undefined) => (path === undefined ? 0 : tell.number(at(event, path)));
  const step = tell.spentOf(of(rule.input), of(rule.cached), of(rule.output), of(rule.usd));
  return tell.plus(spent, step);
}

/** Rules that name an end are believed only when it came. */
function judge(end: AgentEnd, rules: Rule[], done: boolean, failure: string): Problem | null {
  if (failure) return tell.failedWith(failure);
  const ends = rules.some((rule) => rule.end);
  if (end.exit === 0 && (done || !ends)) return null;
  if (end.exit === 0) return tell.endedEarly(end, "");
  const how = end.exit === null ? `was ended by ${end.signal}` : `ended with exit ${end.exit}`;
  return { code: "agent_failed", text: `the script ${how}` };
}

/** `message.content.*.text`: through objects and lists, `*` for each of a list, joined by lines. */
function wordsAt(event: tell.Row, path: string): string {
  const value = at(event, path);
  const all = Array.isArray(value) ? value : [value];
  return all.filter((one) => typeof one === "string" && one).join("\n");
}

function at(value: unknown, path: string): unknown {
  let here: unknown = value;
  const steps = path.split(".");
  for (const [index, step] of steps.entries()) {
    if (step === "*")
      return tell.list(here).flatMap((one) => {
        const rest = steps.slice(index + 1).join(".");
        const found = rest ? at(one, rest) : one;
        return found === undefined ? [] : [found].flat();
      });
    if (typeof here !== "object" || here === null) return undefined;
    here = Object.hasOwn(here, step) ? (here as tell.Row)[step] : undefined;
  }
  return here;
}
