import type { CommentEvent } from "../github/github-event.ts";
import type { Issue } from "../github/objects.ts";
import { spotPrompt, spotText } from "../prompt/compose.ts";
import type { TrimoYml } from "../protocol/trimo-yml.ts";
import type { Run } from "../state/run.ts";
import type { Command } from "../text/command.ts";
import { visible } from "../text/mention.ts";
import type { ReadConfig } from "../text/trimo-yml.ts";
import type { Source } from "./intent.ts";
import { bareRequest, type RunRequest } from "./request-run.ts";

/** A command as a request for a run of this kind. */
export const requestOf = (
  event: CommentEvent,
  command: Command,
  kind: Run["kind"],
): RunRequest => ({
  ...bareRequest(kind, { by: "comment", command: command.name }),
  agent: command.agent,
  image: command.image,
  fresh: command.fresh,
  prompt: promptOf(event, command),
  askedAt: event.at,
  isComment: event.where === "comment",
  heard: { where: event.where, id: event.id },
});

/** When a comment or review was said. */
export function saidBy({ at, where, id }: CommentEvent): Pick<Source, "said"> {
  return at === null ? {} : { said: { at, commentId: where === "comment" ? id : null } };
}

/** The words behind the command; of a comment in a diff also its place. */
export function promptOf(event: CommentEvent, command: Command): string {
  const words = command.prompt || (command.name === "run" ? issuePrompt(event.issue) : "");
  if (!event.spot) return words;
  return `${words || spotPrompt}\n\n${spotText(event.spot)}`;
}

/** An issue as a prompt; an empty one is its title. */
export function issuePrompt(issue: Pick<Issue, "title" | "body">): string {
  return visible(`${issue.title}\n\n${issue.body}`).trim();
}

/** What the handlers of single commands are told. */
export type Spoken = {
  event: CommentEvent;
  command: Command;
  config: TrimoYml;
  mistakes: ReadConfig["mistakes"];
};
