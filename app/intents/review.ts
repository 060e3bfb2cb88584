import type { CommentEvent } from "../github/github-event.ts";
import { readRepositoryConfig } from "../github/repository-config.ts";
import { findOpen } from "../state/pipeline.ts";
import { authorize } from "./authorize.ts";
import { type Parts, recordIntent, sourceOf } from "./intent.ts";

/** A review asks for changes: *Fix it* is offered, and people say whether an agent takes it up. */
export async function review(parts: Parts, guid: string, event: CommentEvent) {
  const pipeline = await findOpen(parts.db.read, event.repository.id, event.issue.number);
  if (!pipeline || pipeline.pullNumber !== event.issue.number) return;
  const { config } = await readRepositoryConfig(parts.github, event);
  const request = { type: "review" as const };
  const source = sourceOf("review", guid, event, { thread: event.issue.number, request });
  const rights = await authorize(parts, source, "fix", config);
  // An outsider's review would not go along, and is no reason to write to everybody.
  if (!rights.allowed || rights.isOutsider) return;
  await recordIntent(parts, source, async () => ({
    outcome: "offered",
    run: null,
    reply: { kind: "review_offer", by: source.sender },
    once: `offer:${pipeline.id}:${pipeline.headSha}`,
  }));
}
