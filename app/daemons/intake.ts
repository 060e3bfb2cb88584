import { countMax, type Event } from "../protocol/event.ts";
import type { Tx } from "../state/database.ts";
import { logDaemon } from "../state/event.ts";
import { renew } from "../state/lease.ts";
import { findPipeline, recordHead } from "../state/pipeline.ts";
import { requestOnce } from "../state/report.ts";
import { isOver, move, note, type Run, recordSeq } from "../state/run.ts";
import { type Attempt, isRefused, type Refused, speaksFor } from "./speaks-for.ts";

/**
 * Stores the events that follow on; those known already are passed over. Gives the number of the highest
 * stored with all before it.
 */
export async function takeEvents(
  tx: Tx,
  of: Attempt,
  sent: Event[],
): Promise<{ acknowledged: number } | Refused> {
  const run = await speaksFor(tx, of);
  if (isRefused(run)) return run;
  const fresh = sent.filter((event) => event.seq > run.lastSeq).sort((a, b) => a.seq - b.seq);
  const gapless = fresh.filter((event, index) => event.seq === run.lastSeq + index + 1);
  if (gapless.length > 0) await logDaemon(tx, run.id, of.attempt, gapless);
  let now = run;
  for (const event of gapless) now = await apply(tx, now, event);
  const acknowledged = gapless.at(-1)?.seq ?? run.lastSeq;
  await recordSeq(tx, run.id, acknowledged);
  if (!isOver(run.state)) await renew(tx, run.id);
  tx.wake("run", run.id);
  return { acknowledged };
}

/** What an event changes of its run; gives the run as it is then. */
async function apply(tx: Tx, run: Run, event: Event): Promise<Run> {
  switch (event.type) {
    case "started": {
      if (run.state !== "claimed") return run;
      const { agent, image, acceptsMessages } = event;
      const changes = { agent, image, acceptsMessages, startedAt: tx.now };
      return (await move(tx, run, "running", changes)) ?? run;
    }
    case "stage":
      return await noted(tx, run, { stage: event.stage });
    case "commit":
      return await noted(tx, run, { commits: run.commits + 1 });
    case "pushed":
      await recordHead(tx, run.pipelineId, event.sha);
      return await noted(tx, run, { headSha: event.sha, changed: true });
    case "usage": {
      const tokens = Math.min(countMax, event.inputTokens + event.outputTokens);
      return await noted(tx, run, { tokens, costMicroUsd: event.costMicroUsd });
    }
    case "receipt":
    case "base":
    case "say":
    case "plan":
    case "session":
    case "kept":
    case "message":
    case "service":
      return await noted(tx, run, {});
    case "comment":
      await requestComment(tx, run, event);
      return run;
    case "notice":
    case "egress":
    case "ask":
    case "tool":
    case "edit":
    case "model":
    case "output":
      return run;
  }
}

async function noted(tx: Tx, run: Run, changes: Partial<Run>): Promise<Run> {
  await note(tx, run, changes);
  return { ...run, ...changes };
}

/** The agent's words under its pipeline's pull request, as a comment of Trimo's. */
async function requestComment(tx: Tx, run: Run, event: Extract<Event, { type: "comment" }>) {
  const pipeline = await findPipeline(tx, run.pipelineId);
  const { workspace, repository, number, agent } = run;
  const reply = { kind: "agent_comment" as const, run: number, agent, text: event.text };
  const issue = pipeline?.pullNumber ?? pipeline?.issue ?? run.thread;
  const wanted = { kind: "reply" as const, repository, issue, reply };
  const subject = `said:${run.id}:${run.attempt}:${event.seq}`;
  await requestOnce(tx, { workspace, subject, wanted });
}
