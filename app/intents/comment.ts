import type { CommentEvent } from "../github/github-event.ts";
import { readRepositoryConfig } from "../github/repository-config.ts";
import { type Command, parseCommand } from "../text/command.ts";
import type { ReadConfig } from "../text/trimo-yml.ts";
import { authorize, refuse } from "./authorize.ts";
import { cancel } from "./cancel.ts";
import { complete } from "./complete.ts";
import { answer, type Parts, type Source, sourceOf } from "./intent.ts";
import { answerMistakes } from "./mistakes.ts";
import { requestRun } from "./request-run.ts";
import { review } from "./review.ts";
import { requestOf, saidBy } from "./spoken.ts";
import { answerStatus } from "./status.ts";
import { tell } from "./tell.ts";

/** Somebody wrote a comment or a review: it may speak to Trimo. */
export async function comment(parts: Parts, guid: string, event: CommentEvent) {
  const spoken = parseCommand(event.body);
  if (!spoken) return event.wantsChanges ? await review(parts, guid, event) : undefined;
  const read = await readRepositoryConfig(parts.github, event);
  const command = "about" in spoken ? (spoken.command ?? "help") : spoken.name;
  const kind = event.where === "comment" ? ("comment" as const) : ("review" as const);
  const source: Source = {
    ...sourceOf(kind, guid, event, {
      thread: event.issue.number,
      request: { type: "command", command },
    }),
    ...saidBy(event),
  };
  const rights = await authorize(parts, source, command, read.config);
  if (!rights.allowed) return await refuse(parts, source, command, rights);
  const known = { ...source, isOutsider: rights.isOutsider };
  if ("about" in spoken)
    return await answer(parts, known, { kind: "misunderstood", about: spoken.about });
  await obey(parts, known, event, spoken, read);
}

/** A command of somebody who may use it. */
async function obey(
  parts: Parts,
  source: Source,
  event: CommentEvent,
  command: Command,
  { config, mistakes }: ReadConfig,
) {
  switch (command.name) {
    case "help":
      return await answer(parts, source, { kind: "help", needs: config.commands ?? {} });
    case "status":
      return await answerStatus(parts, source);
    case "cancel":
      return await cancel(parts, source, event);
    case "done":
      return await complete(parts, source, event);
    case "tell":
      return await tell(parts, source, { event, command, config, mistakes });
    default: {
      if (mistakes.length > 0) return await answerMistakes(parts, source, mistakes);
      const request = requestOf(event, command, command.name);
      await requestRun(parts, source, { request, target: { issue: event.issue }, config });
    }
  }
}
