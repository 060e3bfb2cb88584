import { z } from "zod";
import { commandNames, permissions } from "../protocol/permission.ts";
import { Cause } from "./cause.ts";
import { Position } from "./position.ts";

const number = z.number();
const text = z.string();
const Command = z.enum(commandNames);

/** A run as `/trimo status` shows it, as of the moment it was asked. */
const StatusRun = z.object({
  number,
  state: z.enum(["queued", "claimed", "running"]),
  stage: text.nullable(),
  agent: text.nullable(),
  daemon: text.nullable(),
  /** How long it has been running, in milliseconds; null: it has not started. */
  runningMs: number.nullable(),
  stopping: z.boolean(),
  /** Where it stands in the queue; null: it is not queued. */
  position: Position.nullable(),
});
export type StatusRun = z.infer<typeof StatusRun>;

/** Why the words of a `/trimo tell` do not reach an agent, and become a run. */
const NotHeard = z.discriminatedUnion("why", [
  z.object({ why: z.literal("stopping"), run: number }),
  z.object({ why: z.literal("ended"), run: number }),
  z.object({ why: z.literal("takes_none"), agent: text.nullable() }),
  z.object({ why: z.literal("nobody") }),
]);
export type NotHeard = z.infer<typeof NotHeard>;

/** What is wrong with a command; text/command.ts finds it. */
const CommandProblem = z.discriminatedUnion("problem", [
  z.object({ problem: z.literal("empty") }),
  z.object({ problem: z.literal("unknown"), name: text, nearest: Command.nullable() }),
  z.object({ problem: z.literal("option"), option: z.enum(["agent", "image"]) }),
]);

/**
 * Every answer Trimo gives in a comment of its own, as data. `view/reply.ts` has the words, one function
 * each; they are put together when the comment is written.
 */
export const Reply = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("help"), needs: z.record(text, z.enum(permissions)) }),
  z.object({ kind: z.literal("status"), pipeline: z.boolean(), runs: z.array(StatusRun) }),
  z.object({ kind: z.literal("misunderstood"), about: CommandProblem }),
  z.object({
    kind: z.literal("refused"),
    to: text,
    what: z.union([z.object({ label: text }), z.object({ command: Command })]),
    need: z.enum(permissions),
    has: z.enum(permissions),
  }),
  z.object({
    kind: z.literal("config_mistakes"),
    branch: text,
    mistakes: z.array(z.object({ line: number.nullable(), text })),
  }),
  /** The issue or pull request is closed; `label`: a label was put on it. */
  z.object({ kind: z.literal("closed"), what: z.enum(["issue", "pull"]), label: z.boolean() }),
  z.object({ kind: z.literal("no_run_yet"), command: z.enum(["retry", "fix", "continue"]) }),
  z.object({ kind: z.literal("odd_branch"), branch: text, isDefault: z.boolean() }),
  z.object({ kind: z.literal("fork") }),
  z.object({ kind: z.literal("from_default_branch") }),
  z.object({ kind: z.literal("unknown_agent"), agent: text, known: z.array(text) }),
  /** The pipeline has ended: `now`, between the request and its handling. */
  z.object({ kind: z.literal("pipeline_ended"), now: z.boolean() }),
  z.object({ kind: z.literal("duplicate"), run: number }),
  z.object({ kind: z.literal("nothing_to_cancel") }),
  /** A cancel was said after this, and before this was read. */
  z.object({ kind: z.literal("cancelled_since"), label: text.nullable() }),
  /** A cancel was read late: this run was asked for after it. */
  z.object({ kind: z.literal("asked_since"), run: number }),
  z.object({ kind: z.literal("already_stopping"), run: number, cause: Cause }),
  z.object({ kind: z.literal("tell_empty") }),
  z.object({ kind: z.literal("tell_too_long"), max: number }),
  z.object({ kind: z.literal("tell_ended"), run: number }),
  z.object({ kind: z.literal("tell_full"), run: number }),
  z.object({ kind: z.literal("tell_is_run"), run: number, first: z.boolean(), because: NotHeard }),
  z.object({ kind: z.literal("nothing_to_complete") }),
  z.object({ kind: z.literal("complete_later"), run: number, queued: z.boolean() }),
  z.object({ kind: z.literal("complete_is_authors") }),
  z.object({ kind: z.literal("completed"), changed: z.boolean(), pull: number.nullable() }),
  z.object({ kind: z.literal("review_offer"), by: text }),
  /** `runs`: how many runs of Trimo's own were tried; null: trimo.yml asks for none. */
  z.object({ kind: z.literal("ci_offer"), app: text, sha: text, runs: number.nullable() }),
  z.object({ kind: z.literal("question"), to: text.nullable(), agent: text.nullable(), text }),
  z.object({ kind: z.literal("agent_comment"), run: number, agent: text.nullable(), text }),
  /** Messages nobody heard; `next`: the run they became; null: none. */
  z.object({ kind: z.literal("unheard"), by: text, run: number, next: number.nullable() }),
  z.object({ kind: z.literal("quota_given_up"), run: number, times: number }),
  z.object({ kind: z.literal("pull_refused"), branch: text, why: text }),
  z.object({ kind: z.literal("closed_unchanged") }),
  /** What was asked could not be done; `why`: GitHub's words; null: a fault of Trimo's own. */
  z.object({ kind: z.literal("undone"), why: text.nullable() }),
]);
export type Reply = z.infer<typeof Reply>;
export type ReplyOf<Kind extends Reply["kind"]> = Extract<Reply, { kind: Kind }>;
