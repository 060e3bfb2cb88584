import { git } from "./clone.ts";
import { throughGateway } from "./gateway.ts";
import { Failed, write } from "./journal.ts";
import { stop } from "./stop.ts";
import { places, type Task } from "./task.ts";
import { asAgent } from "./user.ts";

/** The files of the leftovers that GitHub would refuse, or that filled the disk, are left out. */
export const leftoverKbMax = 95 * 1024;
export const leftoverKbMaxOnFullDisk = 1024;

/**
 * Pushes what the agent committed, and commits what it left. The second step works in a repository
 * of its own, on top of what the gate has: a stale lock, a rewritten history or a deleted .git of the
 * agent's loses nothing.
 */
export async function commitAndPush(task: Task, fileKbMax: number): Promise<boolean> {
  const push = [...git, "-C", places.workspace, "push", "--quiet", places.remote];
  // Where HEAD cannot be pushed, the second step keeps the tree all the same.
  const head = `HEAD:refs/heads/${task.branch}`;
  await throughGateway(task.awayMs, () => asAgent([...push, head]), { triesMax: 2 });
  const { name, email } = task.author;
  const message = stop.signal.aborted ? task.stoppedMessage : task.leftoverMessage;
  const args = [places.remote, task.branch, message, name, email, String(fileKbMax)];
  const command = ["/bin/bash", "/opt/trimo/leftovers.sh", ...args];
  const result = await throughGateway(task.awayMs, () => asAgent(command));
  if (result.exit !== 0) throw new Failed("push_refused", result.output);
  if (/^committed$/m.test(result.output))
    write({ type: "notice", text: "committed what the agent had left uncommitted" });
  const large = [...result.output.matchAll(/^left out (.+)$/gm)].map((match) => match[1]);
  const limit = `${Math.round(fileKbMax / 1024)} MB`;
  if (large.length > 0)
    write({
      type: "notice",
      text: `not committed, over ${limit}: ${large.join(", ")}`.slice(0, 1_000),
    });
  return true;
}
