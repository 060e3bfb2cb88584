import type { Fact } from "../../app/protocol/wire.ts";
import { sayMax } from "../../app/protocol/wire.ts";
import type { Adapter } from "./adapter.ts";

/**
 * Any command. Its output stays on the machine, but for lines in the form of GitHub's workflow
 * commands: `::notice::text`, `::warning::text` and `::error::text` are its words, `::ask::text` is a
 * question that ends the run as such, `::usage input=1200,output=300,cost=0.02::` what it has cost so
 * far, in tokens and US dollars.
 */
export function scriptAdapter(command: string[]): Adapter {
  return { command, read, judge };
}

const spoken = /^::(notice|warning|error)(?: [^:]*)?::(.+)$/;

const asked = /^::ask(?: [^:]*)?::(.+)$/;
const used = /^::usage ([a-z0-9.,= ]+)::/;

function read(line: string): Fact[] {
  const question = asked.exec(line.trim())?.[1]?.trim();
  if (question) return [{ type: "ask", text: question.slice(0, sayMax) }];
  const numbers = used.exec(line.trim())?.[1];
  if (numbers) return [usage(numbers)];
  const text = spoken.exec(line.trim())?.[2];
  return text ? [{ type: "say", text: text.slice(0, sayMax) }] : [];
}

function usage(numbers: string): Fact {
  const of = (name: string) => {
    const value = Number(new RegExp(`(?:^|[ ,])${name}=([0-9.]+)`).exec(numbers)?.[1] ?? 0);
    return Number.isFinite(value) ? value : 0;
  };
  return {
    type: "usage",
    inputTokens: Math.round(of("input")),
    outputTokens: Math.round(of("output")),
    costMicroUsd: Math.round(of("cost") * 1_000_000),
  };
}

function judge({ exit, signal }: { exit: number | null; signal: string | null }): string | null {
  if (exit === 0) return null;
  return exit === null ? `the script was ended by ${signal}` : `the script ended with exit ${exit}`;
}
