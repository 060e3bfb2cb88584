import { isServed } from "../protocol/pattern.ts";
import { allDaemons, type Daemon, isHere } from "../state/daemon.ts";
import type { Reads } from "../state/database.ts";
import { type Pause, pauseOf } from "../state/pause.ts";
import type { Run } from "../state/run.ts";

// Which daemon may run what: pure, but for the list of daemons.

type Candidate = Pick<Run, "repository" | "agent" | "declinedBy">;
type Server = Pick<Daemon, "id" | "account" | "repositories" | "agents">;

/** Whether this daemon may and can execute the run. */
export function suits(run: Candidate, daemon: Server): boolean {
  if (!serves(daemon, run.repository)) return false;
  if (run.agent && !daemon.agents.includes(run.agent)) return false;
  return !run.declinedBy.includes(daemon.id);
}

/** Whether this daemon could begin with the run now: it suits, and its agent does not pause there. */
export const canBegin = (run: Candidate, daemon: Daemon, pauses: Pause[]): boolean =>
  suits(run, daemon) && pauseOf(pauses, daemon, run.agent) === null;

function serves(daemon: Server, repository: string): boolean {
  const account = repository.split("/")[0]?.toLowerCase();
  if (daemon.account && daemon.account.toLowerCase() !== account) return false;
  return isServed(repository, daemon.repositories);
}

/**
 * The agent that would do a run now: its own, or, when its service takes no more for a while, the first
 * behind it in the repository's list that some daemon can begin with. Null: the daemon's first.
 */
export function agentNow(
  run: Candidate & Pick<Run, "fallback">,
  { daemons, pauses, now }: { daemons: Daemon[]; pauses: Pause[]; now: number },
): string | null {
  const { agent, fallback } = run;
  if (agent === null || fallback.length === 0) return agent;
  const own = Math.max(0, fallback.indexOf(agent));
  const inTurn = [agent, ...fallback.slice(own), ...fallback.slice(0, own)];
  const ready = inTurn.find((name) =>
    daemons.some(
      (daemon) => isHere(daemon, now) && canBegin({ ...run, agent: name }, daemon, pauses),
    ),
  );
  return ready ?? agent;
}

/** The agents of the daemons that serve a repository, sorted; empty where none does. */
export async function agentsFor(tx: Reads, repository: string): Promise<string[]> {
  const serving = (await allDaemons(tx)).filter((daemon) => serves(daemon, repository));
  return [...new Set(serving.flatMap((daemon) => daemon.agents))].sort();
}
