import type { Clock } from "../protocol/clock.ts";
import type { TokenPurpose } from "../protocol/token.ts";
import type { GitHub } from "./app.ts";

/** `expiresAt` in milliseconds since 1970. */
type Token = { token: string; expiresAt: number };
export type Tokens = {
  forRepository(workspace: number, repositoryId: number, purpose: TokenPurpose): Promise<Token>;
};

/** A token is handed out only while it is good for at least this long, in milliseconds. */
const leftMsMin = 20 * 60_000;

/** Short-lived tokens, each for one repository and one purpose; minted by GitHub, held in memory. */
export function createTokens(github: GitHub, clock: Clock): Tokens {
  const known = new Map<string, Promise<Token>>();
  return {
    async forRepository(workspace, repositoryId, purpose) {
      const key = `${repositoryId} ${purpose}`;
      const hit = known.get(key);
      if (hit) {
        const token = await hit;
        if (token.expiresAt - clock.now() > leftMsMin) return token;
      }
      const minted = github.installation(workspace).token(repositoryId, purpose);
      known.set(key, minted);
      minted.catch(() => known.delete(key));
      return await minted;
    },
  };
}
