import { join } from "node:path";
import { type AgentSetup, blankReader } from "./agent-setup.ts";
import type { Attempt, Parts } from "./attempt.ts";
import { follow } from "./follow.ts";
import type { Outcome } from "./outcome.ts";
import { containerRequestOf, taskOf } from "./task.ts";
import type { Watched } from "./watched.ts";

/** A dead container's work is looked for this often. */
const rescuesMax = 3;

/**
 * Saves the work of a container that died from its volume: another container commits and pushes it.
 * That it died is on record before anything is removed, so a daemon killed here begins here again.
 *
 * @throws Error when the rescue's own container dies: the caller tries again from the record.
 */
export async function rescue(
  { engine, disk, config, identity, log }: Parts,
  { job, folder, record, outbox, signals }: Attempt,
  { outOfMemory, tail }: Outcome,
  watched: Watched,
  agent: AgentSetup["task"],
) {
  const rescues = record.current.died?.rescues ?? 0;
  if (rescues >= rescuesMax) {
    log.error({ run: job.run }, "the dead container's work could not be rescued");
    return;
  }
  record.update({ died: { outOfMemory, tail, rescues: rescues + 1 } });
  await engine.removeContainer(watched.container);
  const { plan } = watched;
  const forge = new URL(config.github).host;
  const request = containerRequestOf(job, plan, identity);
  const { container, hand } = await engine.startContainer(request);
  hand(JSON.stringify({ ...taskOf(job, plan, agent, forge), mode: "rescue", verify: [] }));
  // Its journal and output are new; the transcript of the dead one stays.
  outbox.mark = {
    journal: 0,
    output: 0,
    transcript: disk.size(join(folder, "transcript.log")) ?? 0,
  };
  const { abandon, leave, over } = signals;
  const saved = await follow({
    ...watched,
    container,
    carrier: null,
    reader: blankReader(plan),
    // A cancel that was asked of the run must not stop what saves its work.
    signals: { stop: new AbortController().signal, abandon, leave, over },
  });
  if (saved.died && !over.aborted) throw new Error("the rescue's container died as well");
}
