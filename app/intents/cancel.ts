import { cancelRuns } from "../dispatch/cancel.ts";
import type { CommentEvent } from "../github/github-event.ts";
import { findOpen } from "../state/pipeline.ts";
import {
  acknowledge,
  answered,
  type Effect,
  type Parts,
  recordIntent,
  type Source,
} from "./intent.ts";

/** `/trimo cancel`: stops every open run of the thread's pipeline and keeps the work. */
export async function cancel(parts: Parts, source: Source, event: CommentEvent) {
  const { repository, sender } = source;
  await recordIntent(parts, source, async (tx): Promise<Effect> => {
    await acknowledge(tx, source, event);
    const pipeline = await findOpen(tx, repository.id, event.issue.number);
    const cause = { by: "person" as const, login: sender };
    const stopped = pipeline ? await cancelRuns(tx, pipeline.id, cause) : [];
    const [first] = stopped;
    if (!first) return answered({ kind: "nothing_to_cancel" });
    if (first.cancelledBy === null || stopped.some((run) => run.cancelledBy === null))
      return { outcome: "cancel", run: first, reply: null };
    const before = { run: first.number, cause: first.cancelledBy };
    return answered({ kind: "already_stopping", ...before }, first);
  });
}
