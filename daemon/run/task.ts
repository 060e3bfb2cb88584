import type { Job } from "../../app/protocol/job.ts";
import type { Task } from "../../images/base/task.ts";
import type { ContainerRequest } from "../docker/container-spec.ts";
import type { AgentSetup } from "./agent-setup.ts";
import type { Plan } from "./run-record.ts";

const outputBytesMax = 64 * 2 ** 20;

/** What is kept free of the engine's disk, in bytes: below it no run begins, and who fills it is ended. */
export const reserveBytes = 2 ** 30;

/** The task that a container is handed on its stdin. `forge`: GitHub's host, for the author's address. */
export function taskOf(job: Job, plan: Plan, agent: AgentSetup["task"], forge: string): Task {
  return {
    mode: "run",
    agentBegan: false,
    branch: job.branch,
    base: job.base.sha,
    env: {
      TRIMO_RUN: job.run,
      TRIMO_PIPELINE: job.pipeline,
      TRIMO_BRANCH: job.branch,
      TRIMO_BASE: job.base.sha,
      TRIMO_ISSUE: job.issue === null ? "" : String(job.issue),
      TRIMO_PROMPT_FILE: "/run/trimo/prompt",
    },
    ...agent,
    verify: plan.verify,
    ...leftoverCommit(job, plan, forge),
    stoppedMessage: `Keep what run ${job.number} had done when it was stopped\n\nTrimo-Run: ${job.run}`,
    timeMs: Math.round(plan.minutes * 60_000),
    prebootMs: plan.prebootSeconds * 1_000,
    awayMs: plan.awayMs,
    cpus: plan.cpus,
    outputBytesMax,
    diskBytes: plan.diskBytes,
    reserveBytes,
  };
}

/** Who makes a run's commits, and the message of the one that gathers what was left uncommitted. */
export function leftoverCommit(job: Job, plan: Plan, forge: string) {
  return {
    author: { name: `${plan.agent} (Trimo)`, email: `trimo@users.noreply.${forge}` },
    leftoverMessage: `Keep what run ${job.number} left uncommitted\n\nTrimo-Run: ${job.run}`,
  };
}

/** The request for a run's container; `identity`: this daemon's mark on its containers. */
export function containerRequestOf(job: Job, plan: Plan, identity: string): ContainerRequest {
  const { image, cpus, memoryBytes, pids } = plan;
  const { run, attempt } = job;
  return { run, attempt, daemon: identity, image, cpus, memoryBytes, pids };
}

/** Whether Docker would be asked for the same container. */
export function sameContainer(a: Plan, b: Plan): boolean {
  return (
    a.image === b.image && a.cpus === b.cpus && a.memoryBytes === b.memoryBytes && a.pids === b.pids
  );
}
