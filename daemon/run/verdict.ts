import type { FailureCode } from "../../app/protocol/failure.ts";
import type { Settle } from "../../app/protocol/settle.ts";
import type { StopReason } from "../../images/base/task.ts";
import type { Problem } from "../agents/adapter.ts";
import type { LimitHit } from "../gateway/model/model.ts";
import type { PushVerdict } from "../repository/pusher.ts";
import type { Outcome } from "./outcome.ts";

// How a run ended, decided from what was seen. Pure.

/** A run's end in one of the closed set of words; `failure.detail` still has to be masked and cut. */
export type Ending = Pick<Settle, "outcome" | "failure">;

/** All that decides how a run ended. */
export type Evidence = {
  outcome: Outcome;
  push: PushVerdict;
  /** Somebody cancelled the run. */
  cancelled: boolean;
  /** Why the daemon itself ended the agent; null: it did not. */
  limitHit: LimitHit | null;
  /** What the agent asked people last; null: nothing. */
  question: string | null;
  /** Why the agent's work does not count, see `agentProblem`. */
  problem: Problem | null;
  /** A script's own words explain most of its end; those of other agents are for programs. */
  isScript: boolean;
  /** What could not be saved of the run's work is kept on its volume. */
  volumeKept: boolean;
};

const succeeded: Ending = { outcome: "succeeded", failure: null };
const cancelled: Ending = { outcome: "cancelled", failure: null };

const pushCodes = {
  moved: "branch_moved",
  refused: "push_refused",
  unreachable: "repository_unreachable",
} as const satisfies { [why: string]: FailureCode };

const stopCodes = {
  memory: "out_of_memory",
  time: "time_limit",
  output: "output_limit",
  disk: "disk_limit",
  pids: "pids_limit",
} as const satisfies Record<StopReason, FailureCode>;

/** Decides how a run ended: the first of what follows that is true. */
export function verdictOf(evidence: Evidence): Ending {
  const { outcome, push, limitHit, question, problem } = evidence;
  if (!push.ok) return pushFailed(push);
  if (evidence.volumeKept)
    return failed("container_died", `${outcome.tail}\n${volumeWords}`.trim());
  if (evidence.cancelled) return cancelled;
  if (outcome.failed) return failed(outcome.failed.code, outcome.failed.detail);
  const words = lastWords(outcome.tail, evidence.isScript);
  const starved = outcome.agent?.stopReason === "memory" || (outcome.outOfMemory && outcome.died);
  if (starved) return failed("out_of_memory", words);
  if (outcome.died) return failed(deathCode(outcome.tail), words);
  const stopped = outcome.agent?.stopReason;
  if (stopped) return failed(stopCodes[stopped], words);
  if (limitHit) return failed(limitHit.code, limitHit.text);
  if (outcome.stopped) return failed("container_stopped", words);
  if (question !== null) return failed("asked_question", question);
  if (problem) return failed(problem.code, `${words}\n${problem.text}`.trim());
  const red = outcome.receipts.find((receipt) => receipt.exit !== 0);
  if (red) return failed("verify_failed", `${red.command} ended with exit ${red.exit}`);
  return succeeded;
}

function failed(code: FailureCode, detail: string): Ending {
  return { outcome: code === "time_limit" ? "timed_out" : "failed", failure: { code, detail } };
}

const volumeWords =
  "What the agent had not committed could not be saved; it is kept on the run's machine for two weeks: `trimo kept` there says where.";

function pushFailed(push: Exclude<PushVerdict, { ok: true }>): Ending {
  const kept = push.kept
    ? `The run's commits are on the branch ${push.kept}.`
    : "The run's commits are kept on its machine: `trimo kept` there says where.";
  return failed(pushCodes[push.why], `${push.detail}\n${kept}`.trim());
}

/** What a model's service may be blamed for. */
const ofServices: FailureCode[] = [
  "credential_refused",
  "model_overloaded",
  "model_unknown",
  "quota_reached",
];

/**
 * Why an agent's work does not count; null when it does. What the model's service said last is known
 * better outside: the agents word it each in their own way. `model`: null when the agent has none here.
 */
export function agentProblem(
  said: Problem | null,
  limitHit: LimitHit | null,
  model: { answered: number; failing: { limit: LimitHit } | null } | null,
): LimitHit | null {
  if (limitHit) return limitHit;
  if (!said) return null;
  const last = model?.failing?.limit;
  if (last && last.code !== "agent_failed") return { ...last, text: `${last.text}\n${said.text}` };
  // The service answered well to the last: then it is not what its words sound like.
  const answered = model !== null && model.answered > 0;
  const code = answered && ofServices.includes(said.code) ? "agent_failed" : said.code;
  return { ...said, code, resetAt: null };
}

const wordsShown = 20;
/** A tail as long as this was cut out of more. */
const tailMin = 3_000;

/** The end of what the agent printed, without the lines that are for programs. */
function lastWords(tail: string, isScript: boolean): string {
  if (isScript) return tail;
  // The first line may be the end of a long one.
  const lines = tail.length < tailMin ? tail.split("\n") : tail.split("\n").slice(1);
  return lines
    .filter((line) => !/^\s*[{[]/.test(line))
    .slice(-wordsShown)
    .join("\n");
}

/** An image that cannot even start ends at once, with the words of Docker's own init. */
function deathCode(tail: string): FailureCode {
  if (/exec format error/i.test(tail)) return "image_platform";
  if (/exec \/opt\/trimo\S* failed/i.test(tail)) return "image_broken";
  return "container_died";
}
