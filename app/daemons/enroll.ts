import { endHeld } from "../dispatch/expire.ts";
import { addDaemon, findDaemon, removeDaemon, replaceToken } from "../state/daemon.ts";
import type { Database } from "../state/database.ts";
import { leasesOf } from "../state/lease.ts";
import { liftPauses } from "../state/pause.ts";

/** Why it cannot be done: a sentence for whoever asked. */
type Problem = { problem: string };

const unknown = (name: string): Problem => ({
  problem: `No daemon named "${name}" is enrolled: \`trimo machines\` lists them.`,
});

/**
 * Enrols a daemon and gives its token, which is shown once; only a hash of it is kept. `account`: the one
 * whose repositories it may serve; null: all. `secret`: what its token is made of.
 */
export async function enroll(
  db: Database,
  { name, account, secret }: { name: string; account: string | null; secret: string },
): Promise<string | Problem> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$/.test(name))
    return {
      problem: `"${name}" cannot be a daemon's name: use letters, digits, ".", "_" and "-", at most 60.`,
    };
  const token = tokenOf(secret);
  return await db.write(async (tx) => {
    if (await findDaemon(tx, name))
      return {
        problem: `A daemon named "${name}" is enrolled already: choose another name, or give it a new token with --again.`,
      };
    await addDaemon(tx, { name, token, account });
    return token;
  });
}

/** Gives a daemon a new token in place of the one before; it stays who it is, and so do its runs. */
export async function enrollAgain(
  db: Database,
  { name, secret }: { name: string; secret: string },
): Promise<string | Problem> {
  const token = tokenOf(secret);
  return await db.write(async (tx) => {
    const daemon = await findDaemon(tx, name);
    if (!daemon) return unknown(name);
    await replaceToken(tx, daemon, token);
    return token;
  });
}

/**
 * Takes a daemon's token back for good and forgets the daemon. Its runs are lost, or queued again where they had
 * not started; gives how many there were.
 */
export async function revoke(db: Database, name: string): Promise<number | Problem> {
  return await db.write(async (tx) => {
    const daemon = await findDaemon(tx, name);
    if (!daemon) return unknown(name);
    const held = await leasesOf(tx, daemon.id);
    for (const lease of held) await endHeld(tx, lease);
    await liftPauses(tx, daemon);
    await removeDaemon(tx, daemon);
    return held.length;
  });
}

const tokenOf = (secret: string): string => `trimo_${secret}`;
