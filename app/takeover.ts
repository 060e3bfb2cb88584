import { desc, eq } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { newId } from "./identity.ts";
import { pauseAgents, pauseOf, pausesNow } from "./pause.ts";
import { findPipeline } from "./pipeline.ts";
import type { Settle } from "./protocol/wire.ts";
import { type Daemon, suits } from "./queue.ts";
import { openRuns, type Run, start, wantPlaces } from "./run.ts";
import { daemons, runs } from "./schema.ts";

/** A pipeline goes on by itself so often in a row; then a person looks at it. */
const inARowMax = 8;
const suffix = " · quota";

/**
 * A run whose service takes no more goes on by itself, as a new run on what it has pushed: at once with
 * the next agent of its list that has quota, else with the same one when its time comes.
 */
export async function goOnAfterQuota(
  tx: Tx,
  at: number,
  daemon: Daemon,
  run: Run,
  quota: NonNullable<Settle["quota"]>,
) {
  await pauseAgents(tx, at, daemon, quota);
  await wantPlaces(tx, at, run.workspace);
  const pipeline = await findPipeline(tx, run.pipelineId);
  const waiting = await openRuns(tx, run.pipelineId);
  // Somebody has asked for the next one already: it carries on from here.
  if (pipeline?.state !== "open" || waiting.length > 0) return;
  if ((await inARow(tx, run)) >= inARowMax) return;
  const again = run.trigger.endsWith(suffix);
  await start(tx, at, {
    id: newId(),
    pipelineId: run.pipelineId,
    workspace: run.workspace,
    repository: run.repository,
    kind: "continue",
    prompt: again ? run.prompt : `${goOn(run.number)}\n\n${run.prompt}`,
    requestedBy: run.requestedBy,
    trigger: again ? run.trigger : `${run.trigger}${suffix}`,
    agent: await nextAgent(tx, at, run),
    image: run.image,
    thread: run.thread,
    priority: run.priority,
    askedAt: at,
    fallback: run.fallback,
  });
}

const goOn = (number: number): string =>
  `Go on with what run ${number} was asked; it was ended in the middle because its service took no more requests for a while:`;

/** The first of the run's list, after its own agent, that some machine can begin with now. */
async function nextAgent(tx: Tx, at: number, run: Run): Promise<string | null> {
  const all = await pausesNow(tx, at);
  const machines = await tx.select().from(daemons);
  const own = run.fallback.indexOf(run.agent ?? "");
  const inTurn = [...run.fallback.slice(own + 1), ...run.fallback.slice(0, Math.max(0, own))];
  const ready = inTurn.find((agent) =>
    machines.some(
      (machine) =>
        agent !== run.agent &&
        machine.agents.includes(agent) &&
        suits({ ...run, agent }, machine) &&
        pauseOf(all, machine, agent) === null,
    ),
  );
  return ready ?? run.agent;
}

async function inARow(tx: Tx, run: Run): Promise<number> {
  const newestFirst = await tx
    .select({ trigger: runs.trigger })
    .from(runs)
    .where(eq(runs.pipelineId, run.pipelineId))
    .orderBy(desc(runs.number))
    .limit(inARowMax + 1);
  const other = newestFirst.findIndex(({ trigger }) => !trigger.endsWith(suffix));
  return other < 0 ? newestFirst.length : other;
}
