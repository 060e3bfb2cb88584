import type { Fact } from "../../app/protocol/wire.ts";

/** How an agent ended, as far as its own output and exit say. */
type AgentEnd = { exit: number | null; signal: string | null };

/** What makes a program that edits a checkout an agent of Trimo. One file each in this folder. */
export type Adapter = {
  /** The command line to run in the container's login shell. */
  command: string[];
  /** One clean line of its output → what is worth telling; no file contents, no tool output. */
  read(line: string): Fact[];
  /** Null when it did what it was asked; else why not, in a sentence. */
  judge(end: AgentEnd): string | null;
};
