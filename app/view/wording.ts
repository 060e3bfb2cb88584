import type { Place } from "../dispatch/position.ts";
import type { FailureCode } from "../protocol/failure.ts";
import { failureDetailMax } from "../protocol/failure.ts";
import type { RunState } from "../state/schema.ts";

/** What happened, and what one can do next: one row a code. */
export const failureWords: Record<FailureCode, { title: string; mend: string }> = {
  agent_crashed: {
    title: "the agent ended without a last word",
    mend: "Its output's end is above; `trimo logs` on the machine has all of it. Then `/trimo retry`.",
  },
  agent_failed: {
    title: "the agent failed",
    mend: "Its output's end is above; `trimo logs` on the machine has all of it. Then `/trimo retry`.",
  },
  agent_refused: {
    title: "the model refused to do this",
    mend: "Say it in other words: `/trimo run …`, or let another do it: `/trimo retry agent=…`.",
  },
  agent_unknown: {
    title: "no such agent on this machine",
    mend: "Name one of its agents, or add it to `agents:` in daemon.yml.",
  },
  asked_question: {
    title: "the agent asks a question",
    mend: "Answer with `/trimo continue` and your words behind it.",
  },
  branch_moved: {
    title: "the branch moved while the run was working",
    mend: "Somebody pushed to it. `/trimo retry` starts again from their commit.",
  },
  budget_spent: {
    title: "the run's budget is spent",
    mend: "What was done is committed. `/trimo continue` goes on from there, or raise `limits.tokens` or `limits.usd`.",
  },
  clone_failed: {
    title: "the repository could not be cloned into the container",
    mend: "`/trimo retry` tries again.",
  },
  config_invalid: {
    title: "`.github/trimo.yml` has mistakes",
    mend: "Mend it on the default branch, then `/trimo retry`.",
  },
  container_died: {
    title: "the container ended before its work did",
    mend: "What was committed is safe. Was Docker restarted, or the container removed? Then `/trimo retry`.",
  },
  credential_missing: {
    title: "the machine has no key for this agent",
    mend: "Mend `credential:` of the agent in its daemon.yml, then `/trimo retry`.",
  },
  credential_refused: {
    title: "the model's service refuses the machine's key",
    mend: "Renew the key that `credential:` names in its daemon.yml, then `/trimo retry`.",
  },
  daemon_failed: {
    title: "the daemon met an error of its own",
    mend: "Its log has the details. `/trimo retry` tries again.",
  },
  daemon_lost: {
    title: "the machine went away",
    mend: "What was committed comes with it when it is back. `/trimo retry` runs again elsewhere.",
  },
  disk_full: {
    title: "the disk is full",
    mend: "Make room on the machine, then `/trimo retry`.",
  },
  disk_limit: {
    title: "the run filled its share of the disk",
    mend: "Raise `limits.disk` in `.github/trimo.yml` or in daemon.yml, then `/trimo retry`.",
  },
  docker_unavailable: {
    title: "Docker does not answer on the machine",
    mend: "Start Docker there, then `/trimo retry`.",
  },
  image_broken: {
    title: "the image lacks what a run needs",
    mend: "`trimo image check` on the machine names each lack and its mend. Then `/trimo retry`.",
  },
  image_build_failed: {
    title: "the image could not be built",
    mend: "Mend the Dockerfile on the default branch (`trimo image build` tries it at home), then `/trimo retry`.",
  },
  image_missing: {
    title: "the image does not exist on the machine",
    mend: "Build or pull it there (`trimo image build` makes the base), then `/trimo retry`.",
  },
  image_no_contract: {
    title: "the image does not follow Trimo's contract",
    mend: "Start its Dockerfile with `FROM trimo/base:bookworm`.",
  },
  image_platform: {
    title: "the image is for another kind of machine",
    mend: "Build it for this one: `trimo image build DIR --platform …`, then `/trimo retry`.",
  },
  image_refused: {
    title: "the machine may not start this image",
    mend: "Its daemon.yml lists what it may under `images:`; add it there or name another.",
  },
  model_overloaded: {
    title: "the model's service does not answer as it should",
    mend: "What was done is committed. `/trimo retry` when it is well again, or `/trimo retry agent=…`.",
  },
  model_unknown: {
    title: "the service does not know the model",
    mend: "Mend `model:` of the agent in the machine's daemon.yml, then `/trimo retry`.",
  },
  out_of_memory: {
    title: "the container ran out of memory",
    mend: "Raise `limits.memory` in `.github/trimo.yml` or in daemon.yml, then `/trimo retry`.",
  },
  output_limit: {
    title: "the agent printed more than a run may",
    mend: "Its output's end is above. Make it print less, then `/trimo retry`.",
  },
  pids_limit: {
    title: "the agent started more processes than a run may have",
    mend: "Raise `limits.pids` in `.github/trimo.yml` or in daemon.yml if it needs them, then `/trimo retry`.",
  },
  preboot_failed: {
    title: "services did not start",
    mend: "Mend the image's `preboot.sh`, build the image again, then `/trimo retry`.",
  },
  push_refused: {
    title: "GitHub refused the push",
    mend: "Is the branch protected, or the App's permission gone? Then `/trimo retry`.",
  },
  quota_reached: {
    title: "the service takes no more requests for now",
    mend: "Where a run goes on for it, that says when, and `/trimo cancel` ends the wait; else `/trimo continue` does it.",
  },
  repository_refused: {
    title: "the machine does not serve this repository",
    mend: "Its daemon.yml lists what it serves under `repositories:`.",
  },
  repository_unreachable: {
    title: "the repository could not be fetched",
    mend: "Can the machine reach GitHub? `/trimo retry` tries again.",
  },
  time_limit: {
    title: "the time was up",
    mend: "What was done is committed. `/trimo continue` goes on from there, or raise `limits.minutes`.",
  },
  verify_failed: {
    title: "a verify command failed",
    mend: "`/trimo fix` with what to change runs again on top of this.",
  },
};

export const stateSigns: Record<RunState, string> = {
  queued: "⏳",
  claimed: "⏳",
  running: "🔄",
  succeeded: "✅",
  failed: "❌",
  cancelled: "⏹️",
  timed_out: "⌛",
  lost: "💔",
};

/** Where a queued run stands and what it waits for, each as a piece of a sentence. */
export function placeWords({ position, waits, startsInMs }: Place): Words {
  const line =
    position === null
      ? "waiting"
      : position === 1
        ? "next in line"
        : `${ordinal(position)} in line`;
  const soon =
    startsInMs === null
      ? ""
      : startsInMs < 5_000
        ? " · starts in a moment"
        : ` · starts in about ${roughly(startsInMs)}`;
  switch (waits.for) {
    case "hold":
      return { where: "on hold", why: "It waits until the label `trimo:hold` is taken off." };
    case "suspended":
      return { where: "paused", why: "It waits until the suspension of the GitHub App is lifted." };
    case "pipeline":
      return {
        where: `behind run ${waits.run}`,
        why: `It waits for run ${waits.run} of the same pipeline.`,
      };
    case "quota":
      return quotaWords(waits, startsInMs ?? 0);
    case "branch":
      return { where: line, why: "Its branch and prompt are being made." };
    case "daemon":
      return { where: "waiting for a machine", why: awayWords(waits.away) };
    case "slot":
      return { where: `${line}${soon}`, why: slotWords(waits.machines, position) };
  }
}

type Words = { where: string; why: string };

function quotaWords(waits: Extract<Place["waits"], { for: "quota" }>, inMs: number): Words {
  const at = `${new Date(waits.until).toISOString().slice(0, 16).replace("T", " ")} UTC`;
  const on = waits.machines.map(code).join(" and ");
  return {
    where: `waiting for quota · starts in about ${roughly(inMs)}`,
    why: `The quota of ${code(waits.agent)} on ${on} is used up until ${at}; then it starts by itself.`,
  };
}

function slotWords(machines: Machine[], position: number | null): string {
  if (machines.some(({ busy, slots }) => busy < slots))
    return position === 1 ? "A slot is free: it starts now." : "The runs before it start now.";
  const said = machines.map(({ name, busy, slots }) => `${code(name)} (${busy} of ${slots} busy)`);
  return `It waits for a slot on ${said.join(" or ")}.`;
}
type Machine = { name: string; busy: number; slots: number };

function awayWords(away: string[]): string {
  if (away.length === 0)
    return "No machine that is enrolled serves this repository with this agent: see `repositories:` and `agents:` in daemon.yml.";
  return `${away.map(code).join(" and ")} ${away.length === 1 ? "is" : "are"} away: it starts when one is back.`;
}

/** `2nd`, `11th`. */
export function ordinal(number: number): string {
  const teen = number % 100 >= 11 && number % 100 <= 13;
  const ending = teen ? "th" : (["th", "st", "nd", "rd"][number % 10] ?? "th");
  return `${number}${ending}`;
}

/** A time that is only guessed: `40 s`, `4 min`, `2 h`. */
function roughly(ms: number): string {
  if (ms < 60_000) return `${Math.max(10, Math.ceil(ms / 10_000) * 10)} s`;
  const minutes = Math.round(ms / 60_000);
  return minutes < 90 ? `${minutes} min` : `${Math.round(minutes / 60)} h`;
}

/** `41k tokens`, `$0.62`. */
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
export type Usage = { inputTokens: number; outputTokens: number; costMicroUsd: number };

/** `3 min 12 s`, `0.4 s`: rounded so that two numbers are enough. */
export function duration(ms: number): string {
  if (ms < 10_000) return `${(Math.max(0, ms) / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** `1 commit`, `2 commits`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** Somebody's words on one line of ours: no markup, no mention, no command can come out of them. */
export function plain(text: string, lengthMax: number): string {
  const oneLine = text
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
    .replace(/[\u0000-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069]+/g, " ")
    .replace(/\s+/g, " ")
    .trim();
  const cut =
    oneLine.length > lengthMax ? `${oneLine.slice(0, lengthMax - 1).trimEnd()}…` : oneLine;
  return (
    cut
      .replace(/&/g, "&amp;")
      .replace(/[\\`*_[\]<>|~#]/g, (sign) => `\\${sign}`)
      // "fixes …" would close somebody's issue when ours is merged.
      .replace(/\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b/gi, "$1\u200b")
      .replace(/@(?=\w)/g, "@\u200b")
      .replace(/^\//, "\\/")
  );
}

/** Plain text on one line, where nothing is markup: a check run's title. */
export function oneLine(text: string, lengthMax: number): string {
  return text
    .replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gu, " ")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, lengthMax);
}

/** Output in a fence that nothing inside can close. */
export function fenced(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map((match) => match[0].length));
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text.replace(/\r/g, "").trimEnd()}\n${fence}`;
}

/** The end of a text, cut at a line where one is near. */
export function endOf(text: string, charactersMax = failureDetailMax): string {
  if (text.length <= charactersMax) return text;
  const end = text.slice(-charactersMax + 2);
  const line = end.indexOf("\n");
  return `…\n${line >= 0 && line < 200 ? end.slice(line + 1) : end}`;
}

/** Inline code that nothing inside can close. */
export function code(text: string): string {
  const oneLine = text.replace(/\s+/g, " ").trim();
  const longest = Math.max(0, ...[...oneLine.matchAll(/`+/g)].map((match) => match[0].length));
  const fence = "`".repeat(longest + 1);
  return longest > 0 ? `${fence} ${oneLine} ${fence}` : `\`${oneLine}\``;
}

/**
 * Markdown of at most so many bytes, which is what GitHub counts: cut at a line, with an open fence
 * closed by one as long.
 */
export function cut(markdown: string, bytesMax: number): string {
  if (Buffer.byteLength(markdown) <= bytesMax) return markdown;
  const bytes = Buffer.from(markdown)
    .subarray(0, bytesMax - 200)
    .toString("utf8")
    .replace(/\ufffd+$/, "");
  const kept = bytes.slice(0, Math.max(0, bytes.lastIndexOf("\n")));
  let open: string | null = null;
  for (const line of kept.split("\n")) {
    // A line with more backticks behind them is inline code, not a fence.
    const fence = /^(`{3,})[^`]*$/.exec(line)?.[1];
    if (!fence) continue;
    if (open === null) open = fence;
    else if (line.trim() === open) open = null;
  }
  return `${kept}\n${open ? `${open}\n` : ""}…`;
}
