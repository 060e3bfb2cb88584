import type { Fact } from "../../app/protocol/event.ts";
import type { FailureCode } from "../../app/protocol/failure.ts";

/** What an adapter is told of the run it makes a command line for. */
export type Launch = {
  /** The agent's name in daemon.yml. */
  name: string;
  /** The model, in the service's words; null: the agent's own choice. */
  model: string | null;
  /** Where the agent finds its model: http://127.0.0.1:3128/model/NAME. Null: it speaks to nobody, or by itself. */
  gateway: string | null;
  /** The key is a subscription's token, which some agents send in another way than a key. */
  subscription: boolean;
  /** The session to go on with; null: begin one. */
  resume: string | null;
  /** The id for a session that is begun, where the agent lets its caller choose. A UUID. */
  newSession: string;
};

/** What the container is to run: pure, and without a secret. */
export type Start = {
  command: string[];
  /** For the agent alone, not for verify commands. */
  env: Record<string, string>;
};

/** How an agent ended, as far as its exit says. */
export type AgentEnd = { exit: number | null; signal: string | null };

/** Why a run's work does not count. */
export type Problem = { code: FailureCode; text: string };

/** What an agent counts over a whole session; tokens as in the event `usage`. */
export type Spent = Omit<Extract<Fact, { type: "usage" }>, "type">;
export const nothingSpent: Spent = {
  inputTokens: 0,
  cachedTokens: 0,
  outputTokens: 0,
  costMicroUsd: 0,
};

/** One run's output, line by line; begun again from its first line when the daemon is restarted. */
export type Reader = {
  /** One clean line → what is worth telling: no file contents, no tool output. Never throws. */
  read(line: string): Fact[];
  /** Null when it did what it was asked: its last event came, with no error, and exit 0. */
  end(end: AgentEnd): Problem | null;
  /** What the next run can go on with, and what it has spent in all; null: nothing. */
  session(): { id: string; spent: Spent } | null;
};

/** What makes a program that edits a checkout an agent of Trimo. One file each in this folder. */
export type Adapter = {
  start(launch: Launch): Start;
  /** `resumed`: what the session had spent when this run goes on with it; null: it begins one. */
  reader(resumed: Spent | null): Reader;
  /** What the agent remembers by, below its home. */
  sessionFiles: string[];
  /** Takes messages while it works. */
  acceptsMessages: boolean;
  /** Where a login of its own would lie, below its home; null: it has none. */
  login: string | null;
};

/** Stands in the container where a key is wanted: the gateway takes it off and puts the right one on. */
export const placeholder = "held-by-trimo";

/** An agent that takes messages is run by this program of the image. */
export const driver = ["/opt/trimo/node/bin/node", "--no-warnings", "/opt/trimo/driver.js"];

/** A shell command that gives an agent its prompt as a file on stdin: no length is too much for it. */
export const promptOnStdin = (command: string[]): string[] => [
  "/bin/bash",
  "-c",
  'exec "$@" < "$TRIMO_PROMPT_FILE"',
  "trimo",
  ...command,
];
