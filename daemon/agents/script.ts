import type { Fact } from "../../app/protocol/wire.ts";
import { sayMax } from "../../app/protocol/wire.ts";
import type { Adapter } from "./adapter.ts";

/**
 * Any command. Its output stays on the machine, but for lines in the form of GitHub's workflow
 * commands, `::notice::text`, `::warning::text` and `::error::text`, which are its words.
 */
export function scriptAdapter(command: string[]): Adapter {
  return { command, read, judge };
}

const spoken = /^::(notice|warning|error)(?: [^:]*)?::(.+)$/;

function read(line: string): Fact[] {
  const text = spoken.exec(line.trim())?.[2];
  return text ? [{ type: "say", text: text.slice(0, sayMax) }] : [];
}

function judge({ exit, signal }: { exit: number | null; signal: string | null }): string | null {
  if (exit === 0) return null;
  return exit === null ? `the script was ended by ${signal}` : `the script ended with exit ${exit}`;
}
