import type { Permission } from "../github/app.ts";
import { AgentName, ImageName } from "../protocol/names.ts";
import { findSpoken } from "./mention.ts";

/** What people may write, in one table that also prints `/trimo help`. */
const commands = {
  run: {
    usage: "run [fresh:] [agent=NAME] [image=NAME] [prompt]",
    does: "a run here; without a prompt, the issue is the prompt; `fresh`: the agent remembers nothing of the runs before",
  },
  fix: {
    usage: "fix [agent=NAME] [prompt]",
    does: "corrects: the prompt, with the reviews, failing checks and receipts since the last run",
  },
  continue: {
    usage: "continue [agent=NAME] [prompt]",
    does: "the next run, on all that came before",
  },
  tell: {
    usage: "tell TEXT",
    does: "says it to the agent while it works; one that takes no messages gets it as a corrective run",
  },
  retry: { usage: "retry [agent=NAME]", does: "the last prompt again" },
  cancel: { usage: "cancel", does: "stops the run and keeps its work" },
  status: { usage: "status", does: "queue position, machine, stage, time" },
  done: { usage: "done", does: "completes: the pull request is opened or made ready" },
  help: { usage: "help", does: "this table" },
} as const;
export type CommandName = keyof typeof commands;

/** Everything needs write permission but what only answers; trimo.yml's `commands` may say otherwise. */
const needs: Record<CommandName, Permission> = {
  run: "write",
  fix: "write",
  continue: "write",
  tell: "write",
  retry: "write",
  cancel: "write",
  status: "read",
  done: "write",
  help: "read",
};

export type Needs = Partial<Record<CommandName, Permission>>;
/** What a repository asks for a command; where it says nothing, what Trimo does. */
export const needOf = (name: CommandName, own: Needs | undefined): Permission =>
  own?.[name] ?? needs[name];

export type Command = {
  name: CommandName;
  agent: string | null;
  image: string | null;
  /** Neither the agent's session nor a hand-over goes along. */
  fresh: boolean;
  prompt: string;
};
export type Misunderstood = { problem: string; command: CommandName | null };

/**
 * The first `/trimo` of a comment; what follows it, to the end, is the prompt. Null when the comment
 * does not speak to Trimo.
 */
export function parseCommand(comment: string): Command | Misunderstood | null {
  const spoken = findSpoken(comment);
  if (!spoken) return null;
  const [, name = "", rest = ""] = /^(\S*)[ \t]*(.*)$/.exec(spoken.line) ?? [];
  const wanted = name.toLowerCase();
  if (!wanted) return misunderstood(`Say what to do, for example ${example}.\n\n${helpTable()}`);
  if (!isCommand(wanted)) {
    const near = nearest(wanted);
    const guess = near ? ` Did you mean \`/trimo ${near}\`?` : ` There is:\n\n${helpTable()}`;
    const shown = wanted.replace(/[^a-z0-9-]/g, "").slice(0, 30);
    return misunderstood(
      `There is no command${shown ? ` \`${shown}\`` : " of that name"}.${guess}`,
    );
  }
  // Words to an agent are taken as they are.
  const options =
    wanted === "tell"
      ? { agent: null, image: null, fresh: false, rest }
      : readOptions(rest, wanted);
  if ("problem" in options) return { ...options, command: wanted };
  const { agent, image, fresh } = options;
  const prompt = [options.rest, spoken.below].join("\n").trim();
  return { name: wanted, agent, image, fresh, prompt };
}

const misunderstood = (problem: string): Misunderstood => ({ problem, command: null });
const example = "`/trimo run`";

export function isCommand(name: string): name is CommandName {
  return Object.hasOwn(commands, name);
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
      return misunderstood(
        `\`${key.toLowerCase()}=\` needs a plain name, such as ${isAgent ? "`agent=claude`" : "`image=trimo/base:bookworm`"}.`,
      );
    if (isAgent) agent = value;
    else image = value;
    rest = rest.slice(whole.length);
  }
}

/** The table of commands, with who may use each in this repository. */
export function helpTable(own?: Needs): string {
  const rows = Object.entries(commands).map(
    ([name, { usage, does }]) =>
      `| \`/trimo ${usage}\` | ${does} | ${needOf(name as CommandName, own)} |`,
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
