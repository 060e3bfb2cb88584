import { expect, test } from "vitest";
import type { Outcome } from "../../../daemon/run/outcome.ts";
import { agentProblem, type Evidence, verdictOf } from "../../../daemon/run/verdict.ts";
import type { StopReason } from "../../../images/base/task.ts";

const outcome: Outcome = {
  agent: { exit: 0, signal: null, stopReason: null },
  agentProblem: null,
  receipts: [{ command: "npm test", exit: 0 }],
  failed: null,
  outOfMemory: false,
  died: false,
  began: true,
  agentBegan: true,
  stopped: false,
  pushed: true,
  nothing: false,
  tail: "the last words",
};
const good: Evidence = {
  outcome,
  push: { ok: true, head: "a".repeat(40) },
  cancelled: false,
  limitHit: null,
  question: null,
  problem: null,
  isScript: true,
  volumeKept: false,
};
const limit = { code: "quota_reached" as const, text: "no more today", resetAt: 5 };
const dead = { ...outcome, agent: null, died: true };
const stoppedBy = (stopReason: StopReason) => ({
  ...outcome,
  agent: { exit: null, signal: null, stopReason },
});
const lost = (why: "moved" | "refused" | "unreachable", kept: string | null) => ({
  push: { ok: false as const, why, detail: "", kept },
});

// Each row changes what it names; what stands above in `verdictOf` wins over what stands below.
test.each<[string, Partial<Evidence>, string, string]>([
  ["nothing wrong", {}, "succeeded", ""],
  ["cancelled", { cancelled: true, limitHit: limit }, "cancelled", ""],
  ["branch moved", { ...lost("moved", "b"), cancelled: true }, "branch_moved", "the branch b."],
  ["push refused", lost("refused", null), "push_refused", "`trimo kept` there says where"],
  ["GitHub away", lost("unreachable", null), "repository_unreachable", "kept on its machine"],
  [
    "no clone",
    { outcome: { ...outcome, failed: { code: "clone_failed", detail: "x" } } },
    "clone_failed",
    "x",
  ],
  ["killed for memory", { outcome: { ...dead, outOfMemory: true } }, "out_of_memory", "last words"],
  [
    "work that is only on its volume",
    { volumeKept: true, outcome: dead },
    "container_died",
    "two weeks",
  ],
  ["memory limit", { outcome: stoppedBy("memory") }, "out_of_memory", "last words"],
  ["container died", { outcome: dead, limitHit: limit }, "container_died", "last words"],
  [
    "another platform",
    { outcome: { ...dead, tail: "exec /x: Exec format error" } },
    "image_platform",
    "format",
  ],
  [
    "no node inside",
    { outcome: { ...dead, tail: "exec /opt/trimo/node/bin/node failed" } },
    "image_broken",
    "node",
  ],
  ["time limit", { outcome: stoppedBy("time") }, "time_limit", "last words"],
  ["output limit", { outcome: stoppedBy("output") }, "output_limit", "last words"],
  ["disk limit", { outcome: stoppedBy("disk") }, "disk_limit", "last words"],
  ["pids limit", { outcome: stoppedBy("pids") }, "pids_limit", "last words"],
  ["limit hit", { limitHit: limit, question: "which?" }, "quota_reached", "no more today"],
  [
    "Docker stopped",
    { outcome: { ...outcome, stopped: true }, question: "which?" },
    "container_stopped",
    "last words",
  ],
  [
    "limit hit, so stopped",
    { outcome: { ...outcome, stopped: true }, limitHit: limit },
    "quota_reached",
    "no more today",
  ],
  ["question", { question: "which?", problem: limit }, "asked_question", "which?"],
  ["agent failed", { problem: { code: "agent_failed", text: "exit 3" } }, "agent_failed", "exit 3"],
  [
    "verify failed",
    { outcome: { ...outcome, receipts: [{ command: "npm test", exit: 2 }] } },
    "verify_failed",
    "npm test ended with exit 2",
  ],
])("a run's end: %s", (_name, changes, code, words) => {
  const ending = verdictOf({ ...good, ...changes });
  expect(ending.failure?.code ?? ending.outcome).toBe(code);
  expect(ending.failure?.detail ?? "").toContain(words);
  expect(ending.outcome === "timed_out").toBe(code === "time_limit");
});

test("of an agent that prints for programs only its lines for people are shown", () => {
  const tail = '{"type":"result"}\nIt cannot be done.\n[1, 2]';
  const died = { ...dead, tail };
  const ending = verdictOf({ ...good, outcome: died, isScript: false });
  expect(ending.failure?.detail).toBe("It cannot be done.");
});

const said = { code: "model_overloaded" as const, text: "529" };
test.each([
  ["nothing", null, null, null, null],
  ["a limit before everything", said, limit, null, "quota_reached"],
  ["what the agent said, without a model here", said, null, null, "model_overloaded"],
  ["not the service, for it answered", said, null, { answered: 3, failing: null }, "agent_failed"],
  ["the service's last word", said, null, { answered: 3, failing: { limit } }, "quota_reached"],
])("why an agent's work does not count: %s", (_name, problem, limitHit, model, code) => {
  expect(agentProblem(problem, limitHit, model)?.code ?? null).toBe(code);
});
