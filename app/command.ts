import type { Permission } from "./github.ts";
import { AgentName, ImageName } from "./protocol/names.ts";

/** What people may write, in one table that also prints `/trimo help`. */
const commands = {
  run: { usage: "run [agent=NAME] [image=NAME] [prompt]", does: "runs an agent on this issue" },
  fix: { usage: "fix PROMPT", does: "corrects the last run, on top of its commits" },
  continue: { usage: "continue [prompt]", does: "the next run, on all that came before" },
  retry: { usage: "retry", does: "the last prompt again" },
  cancel: { usage: "cancel", does: "stops the run and keeps its work" },
  status: { usage: "status", does: "says where the run is" },
  help: { usage: "help", does: "this table" },
} as const;
export type CommandName = keyof typeof commands;

/** Everything needs write permission but what only answers. */
export const needs: Record<CommandName, Permission> = {
  run: "write",
  fix: "write",
  continue: "write",
  retry: "write",
  cancel: "write",
  status: "read",
  help: "read",
};

export type Command = {
  name: CommandName;
  agent: string | null;
  image: string | null;
  prompt: string;
};
export type Misunderstood = { problem: string };

/**
 * The first `/trimo` at the start of a line, outside code and quotes; what follows it, to the end of
 * the comment, is the prompt. Null when the comment does not speak to Trimo.
 */
export function parseCommand(comment: string): Command | Misunderstood | null {
  const lines = visible(comment).replace(/\r\n?/g, "\n").split("\n");
  const at = spokenLine(lines);
  if (at < 0) return null;
  const [, name = "", rest = ""] =
    /^ {0,3}\/trimo(?:[ \t]+(\S+))?[ \t]*(.*)$/i.exec(lines[at] ?? "") ?? [];
  const wanted = name.toLowerCase();
  if (!wanted) return { problem: `Say what to do, for example ${example}.\n\n${helpTable()}` };
  if (!isCommand(wanted)) {
    const near = nearest(wanted);
    const guess = near ? ` Did you mean \`/trimo ${near}\`?` : ` There is ${helpTable()}`;
    return {
      problem: `There is no command \`${wanted.replace(/[^a-z0-9-]/g, "").slice(0, 30)}\`.${guess}`,
    };
  }
  const options = readOptions(rest);
  if ("problem" in options) return options;
  const prompt = [options.rest, ...lines.slice(at + 1)].join("\n").trim();
  if (wanted === "fix" && !prompt)
    return { problem: "`/trimo fix` needs to know what: write it behind the command." };
  return { name: wanted, agent: options.agent, image: options.image, prompt };
}

/** Text as a reader of the page sees it: no HTML comments, no invisible characters. */
export function visible(text: string): string {
  return text
    .replace(/<!--[\s\S]*?(?:-->|$)/g, "")
    .replace(/[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]|[\u{e0000}-\u{e007f}]/gu, "");
}

const example = "`/trimo run`";

function isCommand(name: string): name is CommandName {
  return Object.hasOwn(commands, name);
}

/** The line that speaks to Trimo; −1: none does. */
function spokenLine(lines: string[]): number {
  let fence: string | null = null;
  for (const [index, line] of lines.entries()) {
    const mark = /^ {0,3}(`{3,}|~{3,})/.exec(line)?.[1];
    if (fence) {
      if (mark?.startsWith(fence) && line.trim() === mark) fence = null;
    } else if (mark) fence = mark;
    else if (/^ {0,3}\/trimo(?=\s|$)/i.test(line)) return index;
  }
  return -1;
}

function readOptions(
  text: string,
): { agent: string | null; image: string | null; rest: string } | Misunderstood {
  let rest = text;
  let agent: string | null = null;
  let image: string | null = null;
  for (;;) {
    const match = /^(agent|image)=(\S+)\s*/i.exec(rest);
    if (!match) return { agent, image, rest };
    const [whole, key = "", value = ""] = match;
    const schema = key.toLowerCase() === "agent" ? AgentName : ImageName;
    if (!schema.safeParse(value).success)
      return {
        problem: `\`${key}=\` needs a plain name, such as ${key === "agent" ? "`agent=claude`" : "`image=trimo/base:bookworm`"}.`,
      };
    if (key.toLowerCase() === "agent") agent = value;
    else image = value;
    rest = rest.slice(whole.length);
  }
}

export function helpTable(): string {
  const rows = Object.entries(commands).map(
    ([name, { usage, does }]) =>
      `| \`/trimo ${usage}\` | ${does} | ${needs[name as CommandName]} |`,
  );
  return ["| command | does | needs |", "| --- | --- | --- |", ...rows].join("\n");
}

/** The closest command within two edits. */
function nearest(word: string): CommandName | null {
  const ranked = (Object.keys(commands) as CommandName[])
    .map((name) => ({ name, distance: editDistance(word.slice(0, 20), name) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best && best.distance <= 2 ? best.name : null;
}

/** Levenshtein's distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
