import { expect, test } from "vitest";
import type { GitHub } from "../../../app/github/app.ts";
import { createTokens } from "../../../app/github/token.ts";
import type { Clock } from "../../../app/protocol/clock.ts";

function minter() {
  let now = 0;
  const minted: string[] = [];
  const github = {
    installation: (workspace: number) => ({
      token: async (repository: number, purpose: string) => {
        const token = `${workspace}/${repository}/${purpose}/${minted.length}`;
        minted.push(token);
        return { token, expiresAt: now + 3_600_000 };
      },
    }),
  } as unknown as GitHub;
  const clock = { now: () => now } as Clock;
  const pass = (ms: number) => {
    now += ms;
  };
  return { tokens: createTokens(github, clock), minted, pass };
}

test("a token is handed out again while it is good for 20 minutes", async () => {
  const { tokens, minted, pass } = minter();
  const first = await tokens.forRepository(1, 2, "push", false);
  pass(40 * 60_000 - 1);
  expect(await tokens.forRepository(1, 2, "push", false)).toBe(first);
  pass(1);
  expect(await tokens.forRepository(1, 2, "push", false)).not.toBe(first);
  expect(minted).toHaveLength(2);
});

test("one that GitHub refused is replaced, once for all who ask in that moment", async () => {
  const { tokens, minted, pass } = minter();
  const first = await tokens.forRepository(1, 2, "push", false);
  pass(20_000);
  const [a, b] = await Promise.all([
    tokens.forRepository(1, 2, "push", true),
    tokens.forRepository(1, 2, "push", true),
  ]);
  expect(a.token).not.toBe(first.token);
  expect(b).toBe(a);
  expect(await tokens.forRepository(1, 2, "push", false)).toBe(a);
  expect(minted).toHaveLength(2);
});

test("a repository of another installation by now has a token of that one", async () => {
  const { tokens } = minter();
  await tokens.forRepository(1, 2, "push", false);
  expect((await tokens.forRepository(9, 2, "push", false)).token).toMatch(/^9\/2/);
});
