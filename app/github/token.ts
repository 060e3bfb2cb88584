import type { Clock } from "../protocol/clock.ts";
import type { TokenPurpose } from "../protocol/token.ts";
import type { GitHub } from "./app.ts";

/** `expiresAt` in milliseconds since 1970. */
type Token = { token: string; expiresAt: number };
export type Tokens = {
  /** `fresh`: not one that was handed out before, unless it was minted just now. */
  forRepository(
    workspace: number,
    repositoryId: number,
    purpose: TokenPurpose,
    fresh: boolean,
  ): Promise<Token>;
};

/** A token is handed out only while it is good for at least this long, in milliseconds. */
const leftMsMin = 20 * 60_000;
/** Every run of a repository may find the same token refused; one new token is enough for all of them. */
const justNowMs = 10_000;

/** Short-lived tokens, each for one repository and one purpose; minted by GitHub, held in memory. */
export function createTokens(github: GitHub, clock: Clock): Tokens {
  const known = new Map<string, Promise<Token> & { mintedAt?: number }>();
  return {
    async forRepository(workspace, repositoryId, purpose, fresh) {
      // After a transfer it is another installation's.
      const key = `${workspace} ${repositoryId} ${purpose}`;
      const hit = known.get(key);
      if (hit && !(fresh && clock.now() - (hit.mintedAt ?? 0) > justNowMs)) {
        const token = await hit;
        if (token.expiresAt - clock.now() > leftMsMin) return token;
      }
      const minted: Promise<Token> & { mintedAt?: number } = github
        .installation(workspace)
        .token(repositoryId, purpose);
      minted.mintedAt = clock.now();
      known.set(key, minted);
      minted.catch(() => known.delete(key));
      return await minted;
    },
  };
}
