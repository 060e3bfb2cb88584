import { endHeld } from "../dispatch/expire.ts";
import type { Hello, HelloAnswer } from "../protocol/hello.ts";
import { type Daemon, recordHello } from "../state/daemon.ts";
import type { Tx } from "../state/database.ts";
import { heldLease, leasesOf, renew } from "../state/lease.ts";
import { liftPauses } from "../state/pause.ts";
import { findRun, forgetDeclines, isOver } from "../state/run.ts";
import { revive } from "./revive.ts";
import { isRescuable } from "./speaks-for.ts";

type Verdict = HelloAnswer["verdicts"][number]["verdict"];

/** Stores what the daemon can do; about each run it still has it is told what to do. */
export async function welcome(tx: Tx, daemon: Daemon, hello: Hello): Promise<HelloAnswer> {
  const { version, slots, repositories, agents, start } = hello;
  if (start !== daemon.start) await startAnew(tx, daemon, hello);
  await recordHello(tx, daemon, { version, slots, repositories, agents, start });
  const verdicts: HelloAnswer["verdicts"] = [];
  for (const { run, attempt } of hello.held)
    verdicts.push({ run, attempt, verdict: await judge(tx, daemon, run, attempt) });
  return { name: daemon.name, verdicts };
}

/**
 * The daemon was started anew: somebody may have seen to its keys and settings, and what its last start
 * had and this one has not is in nobody's hands.
 */
async function startAnew(tx: Tx, daemon: Daemon, { held }: Hello) {
  await liftPauses(tx, daemon);
  await forgetDeclines(tx, daemon.id);
  for (const lease of await leasesOf(tx, daemon.id)) {
    const isHeld = held.some(
      ({ run, attempt }) => run === lease.runId && attempt === lease.attempt,
    );
    if (!isHeld) await endHeld(tx, lease);
  }
}

async function judge(tx: Tx, daemon: Daemon, runId: string, attempt: number): Promise<Verdict> {
  const lease = await heldLease(tx, { runId, attempt, daemonId: daemon.id });
  const run = await findRun(tx, runId);
  if (run && lease && !isOver(run.state)) {
    await renew(tx, runId);
    return lease.cancel ? "cancel" : "continue";
  }
  if (await revive(tx, { daemon, runId, attempt })) return "continue";
  return run && (await isRescuable(tx, run, { attempt, daemon })) ? "rescue" : "kill";
}
