import type { CommentEvent } from "../github/github-event.ts";
import { findOpen, recordDone } from "../state/pipeline.ts";
import { request } from "../state/report.ts";
import { openRuns, runsOf } from "../state/run.ts";
import {
  acknowledge,
  answered,
  type Effect,
  type Parts,
  recordIntent,
  type Source,
} from "./intent.ts";

/** `/trimo done`: the person has what they wanted, so the pull request is opened or made ready. */
export async function complete(parts: Parts, source: Source, event: CommentEvent) {
  await recordIntent(parts, source, async (tx): Promise<Effect> => {
    await acknowledge(tx, source, event);
    const pipeline = await findOpen(tx, source.repository.id, event.issue.number);
    if (!pipeline) return answered({ kind: "nothing_to_complete" });
    const [live] = await openRuns(tx, pipeline.id);
    if (live) {
      const queued = live.state === "queued";
      return answered({ kind: "complete_later", run: live.number, queued }, live);
    }
    if (pipeline.adopted) return answered({ kind: "complete_is_authors" });
    const { id, workspace, headSha, openingSha, pullNumber } = pipeline;
    const byPeople = headSha !== null && headSha !== openingSha;
    const changed = byPeople || (await runsOf(tx, id)).some((run) => run.changed);
    await recordDone(tx, id, true);
    await request(tx, { workspace, subject: id, wanted: { kind: "pull" } }, { urgent: true });
    return {
      outcome: "done",
      run: null,
      reply: { kind: "completed", changed, pull: pullNumber },
    };
  });
}
