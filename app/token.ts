import type { GitHub } from "./github.ts";
import type { Clock } from "./protocol/pace.ts";

type Token = { token: string; expiresAt: number };
export type Tokens = { forRepository(workspace: number, repositoryId: number): Promise<Token> };

/** A token is handed out only while it is good for at least this long. */
const leftMsMin = 20 * 60_000;

/** Short-lived tokens, each for the contents of one repository; minted by GitHub, held in memory. */
export function createTokens(github: GitHub, clock: Clock): Tokens {
  const known = new Map<number, Promise<Token>>();
  return {
    async forRepository(workspace, repositoryId) {
      const hit = known.get(repositoryId);
      if (hit) {
        const token = await hit;
        if (token.expiresAt - clock.now() > leftMsMin) return token;
      }
      const minted = github.workspace(workspace).token(repositoryId);
      known.set(repositoryId, minted);
      minted.catch(() => known.delete(repositoryId));
      return await minted;
    },
  };
}
