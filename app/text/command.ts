import { AgentName, ImageName } from "../protocol/names.ts";
import { type CommandName, commandNames } from "../protocol/permission.ts";
import { findSpoken } from "./mention.ts";

/** What somebody asked for with `/trimo …`. */
export type Command = {
  name: CommandName;
  agent: string | null;
  image: string | null;
  /** Neither the agent's session nor a handoff goes along. */
  fresh: boolean;
  prompt: string;
};

/** What is wrong with a comment that speaks to Trimo; `view/reply.ts` words it. */
type Misunderstood = {
  /** The command it meant, as far as that is known. */
  command: CommandName | null;
  about:
    | { problem: "empty" }
    /** `name`: as it was written, without anything that is not a letter, digit or hyphen. */
    | { problem: "unknown"; name: string; nearest: CommandName | null }
    /** An option without a plain name behind it. */
    | { problem: "option"; option: "agent" | "image" };
};

/**
 * The first `/trimo` of a comment; what follows it, to the end, is the prompt. Null when the comment
 * does not speak to Trimo.
 */
export function parseCommand(comment: string): Command | Misunderstood | null {
  const spoken = findSpoken(comment);
  if (!spoken) return null;
  const [, name = "", rest = ""] = /^(\S*)[ \t]*(.*)$/.exec(spoken.line) ?? [];
  const wanted = name.toLowerCase();
  if (!wanted) return { command: null, about: { problem: "empty" } };
  if (!isCommand(wanted)) {
    const shown = wanted.replace(/[^a-z0-9-]/g, "").slice(0, nameShownMax);
    const about = { problem: "unknown" as const, name: shown, nearest: nearest(wanted) };
    return { command: null, about };
  }
  // Words to an agent are taken as they are.
  const options =
    wanted === "tell"
      ? { agent: null, image: null, fresh: false, rest }
      : readOptions(rest, wanted);
  if ("about" in options) return options;
  const { agent, image, fresh } = options;
  const prompt = [options.rest, spoken.below].join("\n").trim();
  return { name: wanted, agent, image, fresh, prompt };
}

/** The most characters of an unknown command that are repeated. */
const nameShownMax = 30;

/** Whether this is the name of a command. */
function isCommand(name: string): name is CommandName {
  return (commandNames as readonly string[]).includes(name);
}

type Options = Pick<Command, "agent" | "image" | "fresh"> & { rest: string };

function readOptions(text: string, name: CommandName): Options | Misunderstood {
  let rest = text;
  let agent: string | null = null;
  let image: string | null = null;
  let fresh = false;
  for (;;) {
    const alone =
      name === "run" && !fresh ? /^fresh(?::\s*|\s*$|\s+(?=(?:agent|image)=))/i.exec(rest) : null;
    if (alone) {
      fresh = true;
      rest = rest.slice(alone[0].length);
      continue;
    }
    const match = /^(agent|image)=(\S*)\s*/i.exec(rest);
    if (!match) return { agent, image, fresh, rest };
    const [whole, key = "", value = ""] = match;
    const isAgent = key.toLowerCase() === "agent";
    if (!(isAgent ? AgentName : ImageName).safeParse(value).success)
      return { command: name, about: { problem: "option", option: isAgent ? "agent" : "image" } };
    if (isAgent) agent = value;
    else image = value;
    rest = rest.slice(whole.length);
  }
}

/** The closest command within two edits. */
function nearest(word: string): CommandName | null {
  const ranked = commandNames
    .map((name) => ({ name, distance: editDistance(word.slice(0, 20), name) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best && best.distance <= 2 ? best.name : null;
}

/** Damerau and Levenshtein's distance: two letters that changed places are one slip. */
function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const turned = a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      const turn = turned && i > 1 && j > 1 ? (before[j - 2] ?? 0) + 1 : swap;
      next.push(Math.min(swap, turn, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    before = row;
    row = next;
  }
  return row[b.length] ?? 0;
}
