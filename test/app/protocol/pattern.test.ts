import { expect, test } from "vitest";
import { matchesAny } from "../../../app/protocol/pattern.ts";
import { chanceOf } from "../../sim/world.ts";

/** As it was written first: right, and endless for a pattern that means it. */
function byExpression(name: string, pattern: string): boolean {
  const source = pattern
    .split("*")
    .map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"))
    .join("[^/]*");
  return new RegExp(`^${source}$`, "i").test(name);
}

test("agrees with the plain reading of patterns, on thousands of small ones", () => {
  const chance = chanceOf(1, "patterns");
  const text = (letters: string, most: number) =>
    Array.from(
      { length: Math.floor(chance() * most) },
      () => letters[Math.floor(chance() * letters.length)],
    ).join("");
  for (let i = 0; i < 20_000; i++) {
    const [name, pattern] = [text("abA/.", 8), text("abA/.**", 8)];
    expect([name, pattern, matchesAny(name, [pattern])]).toEqual([
      name,
      pattern,
      byExpression(name, pattern),
    ]);
  }
});

test.each([
  `${"*".repeat(199)}!`,
  `${"*a".repeat(99)}!`,
  `${"a*".repeat(99)}!/x`,
  "*a*".repeat(66),
])("a pattern that would keep a regular expression busy for years is answered: %s", (pattern) => {
  expect(matchesAny("a".repeat(40_000), [pattern, `${pattern}/x`])).toBe(pattern.endsWith("*"));
});
