import type { Fact } from "../protocol/event.ts";
import type { OwnFact } from "../state/event.ts";
import { causeWords } from "./cause.ts";
import { originWords } from "./origin.ts";
import { count, duration, usageWords } from "./units.ts";

/** Counts, and answers that went well, are shown elsewhere: a line each would hide the rest. */
export const isQuiet = (fact: Fact | OwnFact): boolean =>
  fact.type === "usage" || fact.type === "output" || (fact.type === "model" && fact.problem === "");

/** One fact of a run's log as one line of plain text. */
export function sentence(fact: Fact | OwnFact): string {
  switch (fact.type) {
    case "queued":
      return `queued for ${fact.by} (${originWords(fact.origin)})`;
    case "claimed":
      return `claimed by ${fact.daemon}, attempt ${fact.attempt}`;
    case "requeued":
      return requeuedWords(fact);
    case "revived":
      return `${fact.daemon} is heard of again; it goes on`;
    case "composed":
      return ["prompt composed", ...fact.notes].join(" · ");
    case "cancel_requested":
      return `to be stopped by ${causeWords(fact.cause)}`;
    case "ended":
      return endedWords(fact);
    default:
      return daemonSentence(fact);
  }
}

function requeuedWords({ daemon, why, detail }: Extract<OwnFact, { type: "requeued" }>): string {
  if (why === "silent") return `back in the queue: ${daemon} was silent before the run had started`;
  return `back in the queue: ${daemon} declined it${detail ? `: ${detail}` : ""}`;
}

function endedWords({ state, failure, cause }: Extract<OwnFact, { type: "ended" }>): string {
  const words = state.replace("_", " ");
  if (cause) return `${words} by ${causeWords(cause)}`;
  return failure ? `${words}: ${failure}` : words;
}

function daemonSentence(fact: Fact): string {
  switch (fact.type) {
    case "started":
      return startedWords(fact);
    case "stage":
      return `stage ${fact.stage}`;
    case "say":
      return `agent: ${fact.text}`;
    case "ask":
      return `agent asks: ${fact.text}`;
    case "notice":
      return fact.text;
    case "commit":
      return `commit ${fact.sha.slice(0, 7)} ${fact.subject}`;
    case "pushed":
      return `pushed ${fact.sha.slice(0, 7)}`;
    case "receipt": {
      const result = fact.exitCode === 0 ? "passed" : `exit ${fact.exitCode}`;
      return `verify ${fact.command}: ${result} in ${duration(fact.durationMs)}`;
    }
    case "base":
      return `the base has ${count(fact.behind, "more commit")}${driftWords(fact.conflicts)}`;
    case "usage":
      return usageWords(fact).join(", ");
    case "egress":
      return `${fact.allowed ? "connected to" : "kept from"} ${fact.host} (${fact.reason})`;
    case "service":
      return serviceWords(fact);
    case "comment":
      return "the agent commented on the pull request";
    case "tool":
      return [fact.name, fact.target].filter(Boolean).join(" ");
    case "edit": {
      const lines = fact.added === null ? "" : ` +${fact.added} −${fact.removed}`;
      return `edit ${fact.path}${lines}`;
    }
    case "plan": {
      const done = fact.items.filter((item) => item.done).length;
      return `plan: ${done} of ${count(fact.items.length, "item")} done`;
    }
    case "model":
      return modelWords(fact);
    case "session":
      return sessionWords(fact);
    case "kept":
      return `kept on the machine: ${keptWords(fact)}`;
    case "message":
      return `${fact.by} told the agent: ${fact.text}`;
    case "output":
      return `${count(fact.lines, "line")} of output so far, ${count(fact.bytes, "byte")}`;
  }
}

/** What of a run's work is nowhere but on its machine, as a piece of a sentence. */
export function keptWords({
  commits,
  volume,
}: Pick<Extract<Fact, { type: "kept" }>, "commits" | "volume">): string {
  if (commits && volume) return "its commits and uncommitted work";
  return commits ? "its commits" : "its uncommitted work";
}

function startedWords(fact: Extract<Fact, { type: "started" }>): string {
  const memory = `${Math.round(fact.memoryBytes / 2 ** 20)} MB`;
  const limits = `${count(fact.cpus, "CPU")}, ${memory}, at most ${fact.minutes} min`;
  return `container of ${fact.image} for ${fact.agent}: no network, ${limits}`;
}

function serviceWords({ name, state, durationMs }: Extract<Fact, { type: "service" }>): string {
  if (state === "ready") return `${name} is ready after ${duration(durationMs)}`;
  return `${name} ${state === "died" ? "has ended" : "was running"}`;
}

function modelWords({ problem, retry, durationMs }: Extract<Fact, { type: "model" }>): string {
  const again = retry ? ", on another try" : "";
  const took = duration(durationMs);
  return problem
    ? `the model: ${problem} after ${took}${again}`
    : `the model answered in ${took}${again}`;
}

/** What the agent knows of the runs before; `why`: a piece of a sentence, or empty. */
export type SessionFrom = Pick<Extract<Fact, { type: "session" }>, "from" | "why">;

/** What the agent began with, as a sentence. */
export function sessionWords({ from, why }: SessionFrom): string {
  const because = why ? ` (${why})` : "";
  if (from === "session") return `The agent continues its own session of this pipeline${because}.`;
  if (from === "nothing") return `The agent knows nothing of the earlier runs${because}.`;
  return `The agent was given a written handoff of the earlier runs${because}.`;
}

/** Which files conflict, as the end of a sentence; empty where none does. */
export function driftWords(conflicts: string[] | null): string {
  if (conflicts === null || conflicts.length === 0) return "";
  const shown = conflicts.slice(0, 5).join(", ");
  const rest = conflicts.length - 5;
  return `, which conflict with the branch in ${shown}${rest > 0 ? ` and ${rest} more` : ""}`;
}
