import type { Run } from "../state/run.ts";
import type { RunState } from "../state/schema.ts";

const signs: Record<RunState, string> = {
  queued: "⏳",
  claimed: "⏳",
  running: "🔄",
  succeeded: "✅",
  failed: "❌",
  cancelled: "⏹️",
  timed_out: "⌛",
  lost: "💔",
};

/** A run's state as a sign and in words; a success that changed nothing is one of its own. */
export function stateWords(run: Pick<Run, "state" | "changed">): { sign: string; words: string } {
  if (run.state === "succeeded" && !run.changed) return { sign: "⚪", words: "nothing to change" };
  return { sign: signs[run.state], words: run.state.replace("_", " ") };
}
