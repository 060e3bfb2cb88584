import { addDaemon, findDaemon } from "../state/daemon.ts";
import type { Database } from "../state/database.ts";

/** Why a daemon cannot be enrolled: a sentence for whoever asked. */
type EnrollProblem = { problem: string };

/**
 * Enrols a daemon and gives its token, which is shown once; only a hash of it is kept. `account`: the one
 * whose repositories it may serve; null: all. `secret`: what its token is made of.
 */
export async function enroll(
  db: Database,
  { name, account, secret }: { name: string; account: string | null; secret: string },
): Promise<string | EnrollProblem> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$/.test(name))
    return {
      problem: `"${name}" cannot be a daemon's name: use letters, digits, ".", "_" and "-", at most 60.`,
    };
  const token = `trimo_${secret}`;
  return await db.write(async (tx) => {
    if (await findDaemon(tx, name))
      return { problem: `A daemon named "${name}" is enrolled already: choose another name.` };
    await addDaemon(tx, { name, token, account });
    return token;
  });
}
