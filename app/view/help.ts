import { type CommandName, commandNames, type Permission } from "../protocol/permission.ts";

/** What each command is, in the table that `/trimo help` prints. */
const commands: Record<CommandName, { usage: string; does: string }> = {
  run: {
    usage: "run [fresh:] [agent=NAME] [image=NAME] [prompt]",
    does: "starts a run here; without a prompt, the issue is the prompt; with `fresh:`, the agent knows nothing of earlier runs",
  },
  fix: {
    usage: "fix [agent=NAME] [prompt]",
    does: "starts a corrective run, with the reviews, failing checks and receipts since the last run",
  },
  continue: {
    usage: "continue [agent=NAME] [prompt]",
    does: "starts the next run, on top of everything before it",
  },
  tell: {
    usage: "tell TEXT",
    does: "sends a message to the agent at work; if it takes none, the message becomes a corrective run",
  },
  retry: { usage: "retry [agent=NAME]", does: "runs the last prompt again" },
  cancel: { usage: "cancel", does: "stops the run and keeps its work" },
  status: { usage: "status", does: "shows position, machine, stage and time" },
  done: {
    usage: "done",
    does: "completes the pipeline: opens its pull request, or makes it ready",
  },
  help: { usage: "help", does: "shows this table" },
};

/** Every command needs write permission but the two that only answer. */
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

/** The permissions a repository's trimo.yml asks for, where it says something else than Trimo does. */
type Needs = Partial<Record<CommandName, Permission>>;

/** The permission a command needs in a repository; `own`: what its trimo.yml says. */
export const needOf = (name: CommandName, own: Needs | undefined): Permission =>
  own?.[name] ?? needs[name];

/** The table of commands in Markdown, with who may use each in this repository. */
export function helpTable(own?: Needs): string {
  const rows = commandNames.map((name) => {
    const { usage, does } = commands[name];
    return `| \`/trimo ${usage}\` | ${does} | ${needOf(name, own)} |`;
  });
  return ["| command | does | needs |", "| --- | --- | --- |", ...rows].join("\n");
}
