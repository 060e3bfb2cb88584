import type { FailureCode } from "../protocol/failure.ts";
import type { Run } from "../state/run.ts";

/** What happened (the end of "Run 7 stopped: …") and how to fix it, in Markdown: one row a code. */
export const failureWords: Record<FailureCode, { title: string; fix: string }> = {
  agent_crashed: {
    title: "the agent ended without finishing",
    fix: "The end of its output is above; `trimo logs` on the machine shows all of it. Then use `/trimo retry`.",
  },
  agent_failed: {
    title: "the agent failed",
    fix: "The end of its output is above; `trimo logs` on the machine shows all of it. Then use `/trimo retry`.",
  },
  agent_refused: {
    title: "the model refused the request",
    fix: "Rephrase it with `/trimo run …`, or let another agent do it: `/trimo retry agent=…`.",
  },
  agent_unknown: {
    title: "this machine has no such agent",
    fix: "Name one of its agents, or add this one to `agents:` in its daemon.yml.",
  },
  asked_question: {
    title: "the agent asks a question",
    fix: "Answer with `/trimo continue …`.",
  },
  branch_moved: {
    title: "the branch moved while the run was working",
    fix: "Somebody pushed to it. `/trimo retry` starts again from their commit.",
  },
  budget_spent: {
    title: "the run's budget is spent",
    fix: "What was done is committed. `/trimo continue` goes on from there; `limits.tokens` or `limits.usd` can be raised.",
  },
  clone_failed: {
    title: "the repository could not be cloned into the container",
    fix: "`/trimo retry` tries again.",
  },
  config_invalid: {
    title: "`.github/trimo.yml` has mistakes",
    fix: "Fix it on the default branch, then use `/trimo retry`.",
  },
  container_died: {
    title: "the container ended before its work did",
    fix: "What was committed is safe. Check whether Docker or the daemon was away, or the container removed, then use `/trimo retry`.",
  },
  container_stopped: {
    title: "the container was stopped from outside",
    fix: "It is what Docker does when it or its machine is stopped. What the agent had done is committed; `/trimo continue` goes on from there.",
  },
  credential_missing: {
    title: "the machine has no key for this agent",
    fix: "Correct the agent's `credential:` in its daemon.yml, then use `/trimo retry`.",
  },
  credential_refused: {
    title: "the model's service refuses the machine's key",
    fix: "Renew the key that `credential:` names in its daemon.yml, then use `/trimo retry`.",
  },
  daemon_failed: {
    title: "the daemon had an internal error",
    fix: "Its log has the details. `/trimo retry` tries again.",
  },
  daemon_lost: {
    title: "the machine went away",
    fix: "Its commits are pushed when it comes back. `/trimo retry` runs the prompt again elsewhere.",
  },
  disk_full: {
    title: "the machine's disk is full",
    fix: "Free some space on the machine, then use `/trimo retry`.",
  },
  disk_limit: {
    title: "the run used up its disk limit",
    fix: "Raise `limits.disk` in `.github/trimo.yml` or in daemon.yml, then use `/trimo retry`.",
  },
  docker_unavailable: {
    title: "Docker does not answer on the machine",
    fix: "Start Docker there, then use `/trimo retry`.",
  },
  image_broken: {
    title: "the image lacks something a run needs",
    fix: "`trimo image check` on the machine names what is missing and how to fix it. Then use `/trimo retry`.",
  },
  image_build_failed: {
    title: "the image could not be built",
    fix: "Fix the Dockerfile on the default branch (`trimo image build` tries it locally), then use `/trimo retry`.",
  },
  image_missing: {
    title: "the image does not exist on the machine",
    fix: "Build or pull it there (`trimo image build` makes the base image), then use `/trimo retry`.",
  },
  image_no_contract: {
    title: "the image does not follow Trimo's container contract",
    fix: "Start its Dockerfile with `FROM trimo/base:bookworm`.",
  },
  image_platform: {
    title: "the image is for another kind of processor",
    fix: "Build it for this machine with `trimo image build DIR --platform …`, then use `/trimo retry`.",
  },
  image_refused: {
    title: "the machine may not start this image",
    fix: "Its daemon.yml lists what it may start under `images:`. Add this image there, or name another one.",
  },
  model_overloaded: {
    title: "the model's service does not answer properly",
    fix: "What was done is committed. If a follow-up run is queued, its comment says when it starts; `/trimo cancel` stops waiting. Otherwise use `/trimo continue` when the service has recovered, or `/trimo retry agent=…`.",
  },
  model_unknown: {
    title: "the model's service does not know the model",
    fix: "Correct the agent's `model:` in the machine's daemon.yml, then use `/trimo retry`.",
  },
  out_of_memory: {
    title: "the container ran out of memory",
    fix: "Raise `limits.memory` in `.github/trimo.yml` or in daemon.yml, then use `/trimo retry`.",
  },
  output_limit: {
    title: "the agent printed more than a run may",
    fix: "The end of its output is above. Make it print less, then use `/trimo retry`.",
  },
  pids_limit: {
    title: "the agent started more processes than a run may have",
    fix: "If it needs them, raise `limits.pids` in `.github/trimo.yml` or in daemon.yml. Then use `/trimo retry`.",
  },
  preboot_failed: {
    title: "the services did not start",
    fix: "Fix the image's `preboot.sh`, build the image again, then use `/trimo retry`.",
  },
  push_refused: {
    title: "GitHub refused the push",
    fix: "Check whether the branch is protected or the App has lost its permission, then use `/trimo retry`.",
  },
  quota_reached: {
    title: "the model's service takes no more requests for now",
    fix: "If a follow-up run is queued, its comment says when it starts; `/trimo cancel` stops waiting. Otherwise use `/trimo continue`.",
  },
  repository_refused: {
    title: "the machine does not serve this repository",
    fix: "Its daemon.yml lists what it serves under `repositories:`.",
  },
  repository_unreachable: {
    title: "the repository could not be fetched",
    fix: "Check that the machine can reach GitHub. `/trimo retry` tries again.",
  },
  time_limit: {
    title: "the run's time is up",
    fix: "What was done is committed. `/trimo continue` goes on from there; `limits.minutes` can be raised.",
  },
  verify_failed: {
    title: "a verify command failed",
    fix: "`/trimo fix` starts a corrective run on top of this one.",
  },
};

/** What is known of a failure beside its code: the end of some output, or how its daemon was lost. */
export function failureDetail(run: Run): string | null {
  if (run.failureCode !== "daemon_lost") return run.failureDetail;
  return run.startedAt === null
    ? `${run.attempt} attempts ended before the run had started.`
    : `${run.daemon ?? "The daemon"} was silent until its lease ended.`;
}
