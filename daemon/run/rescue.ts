import { utcTime } from "../../app/protocol/clock.ts";
import { crashAt } from "../../app/protocol/crash.ts";
import { cleanEnd } from "../redact.ts";
import { type AgentSetup, blankReader } from "./agent-setup.ts";
import { type Attempt, decide, type Parts } from "./attempt.ts";
import { follow } from "./follow.ts";
import type { Outcome } from "./outcome.ts";
import { hasVolume } from "./prepare.ts";
import { isDockerAway } from "./refusal.ts";
import { transcriptPath } from "./run-record.ts";
import { containerRequestOf, leftoverCommit, taskOf } from "./task.ts";
import type { Watched } from "./watched.ts";

/** So many containers may try to save a dead one's work; an engine that is away is no try. */
const rescuesMax = 3;
const whyChars = 300;

/**
 * Saves the work of a container that died from its volume: another container commits and pushes it.
 * That it died is on record before anything is removed, so a daemon killed here begins here again.
 *
 * After three that ran in vain the volume is kept, and the run ends saying so. Where there is no volume any
 * more, or none that can be read, the last snapshot is what is left of the work.
 *
 * @throws Error when the rescue's own container dies or saves nothing: the caller tries again from the
 *   record. DockerError.
 */
export async function rescue(
  parts: Parts,
  attempt: Attempt,
  { outOfMemory, tail }: Outcome,
  watched: Watched,
  agent: AgentSetup["task"],
) {
  const { engine, disk, config, identity, log } = parts;
  const { job, folder, record, outbox, signals } = attempt;
  const rescues = record.current.died?.rescues ?? 0;
  const died = { outOfMemory, tail, rescues };
  const isOver = rescues >= rescuesMax;
  const keepVolume = isOver && (await hasVolume(parts, job));
  await decide(attempt, { died, keepVolume });
  crashAt("daemon: a death is on record");
  if (isOver) {
    const about = { run: job.run, volume: keepVolume };
    log.error(about, "the dead container's work could not be rescued; its volume stays");
    const why = keepVolume ? "the volume could not be read" : "the volume is lost";
    await recoverSnapshot(parts, attempt, watched, why);
    return;
  }
  await engine.removeContainer(watched.container);
  crashAt("daemon: a dead container is removed");
  const { plan } = watched;
  const forge = new URL(config.github).host;
  const request = containerRequestOf(job, plan, identity);
  const inVain = () => record.update({ died: { ...died, rescues: rescues + 1 } });
  const { container, hand } = await engine.startContainer(request).catch((error) => {
    // An image that is gone, say: no number of tries brings it back.
    if (!isDockerAway(error)) inVain();
    throw error;
  });
  crashAt("daemon: a rescue is started");
  const agentBegan = outbox.events.some((one) => one.type === "stage" && one.stage === "agent");
  const task = taskOf(job, plan, agent, forge);
  hand(JSON.stringify({ ...task, mode: "rescue", agentBegan, verify: [] }));
  // Its journal and output are new; the transcript of the dead one stays.
  outbox.mark = {
    journal: 0,
    output: 0,
    transcript: disk.size(transcriptPath(folder)) ?? 0,
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
  if (over.aborted) return;
  crashAt("daemon: a rescue is done");
  if (saved.pushed && !saved.died) {
    if (saved.nothing && agentBegan)
      await recoverSnapshot(parts, attempt, watched, "the volume is lost");
    return;
  }
  inVain();
  const why = cleanEnd(saved.failed?.detail ?? saved.tail, whyChars);
  throw new Error(`the rescue's container saved nothing: ${why}`);
}

/** Puts the container's last snapshot on the branch in the gate, and says so. `why`: what it is needed for. */
async function recoverSnapshot(
  { config }: Parts,
  { job, outbox }: Attempt,
  { endpoints, plan }: Watched,
  why: string,
) {
  const { author, leftoverMessage } = leftoverCommit(job, plan, new URL(config.github).host);
  const takenAt = await endpoints.gate.recoverSnapshot({ ...author, message: leftoverMessage });
  if (takenAt === null) return;
  crashAt("daemon: a snapshot is recovered");
  const text = `${why}; uncommitted work is as it was at ${utcTime(takenAt)}, by the last snapshot`;
  outbox.add({ type: "notice", text });
}
