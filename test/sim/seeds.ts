import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { play } from "./play.ts";
import { kindOf, shrink } from "./shrink.ts";
import { type Story, storyOf } from "./story.ts";

/** How many seeds are played; `.ci/run` plays more. */
const seeds = Number(process.env.TRIMO_SIM_SEEDS ?? 300);
/** Stories that broke once, made shorter: they go first. */
const keptFolder = fileURLToPath(new URL("kept", import.meta.url));
/** Seeds of one test. */
const perTest = 10;
/** Every so many seeds one is played twice. */
const twiceEvery = 25;

/** Tests of every `parts`-th group of seeds, beginning with the `part`-th: files run side by side. */
export function testSeeds(part: number, parts: number) {
  for (let group = part; group * perTest < seeds; group += parts) {
    const from = group * perTest + 1;
    const to = Math.min(seeds, from + perTest - 1);
    test(`nothing is lost, doubled or out of order: seeds ${from} to ${to}`, async () => {
      for (let seed = from; seed <= to; seed++) await playSeed(seed);
    });
  }
}

/** Tests of the stories that broke once. */
export function testKept() {
  const names = readdirSync(keptFolder).filter((name) => name.endsWith(".json"));
  test.each(names)("what broke once holds: %s", async (name) => {
    const story = JSON.parse(readFileSync(join(keptFolder, name), "utf8")) as Story;
    expect((await play(story)).violations).toEqual([]);
  });
}

async function playSeed(seed: number) {
  const story = storyOf(seed);
  const played = await play(story);
  if (played.violations.length > 0) await keep(story, played.violations);
  if (seed % twiceEvery !== 0) return;
  expect((await play(story)).digest, `seed ${seed} played twice`).toBe(played.digest);
}

/** Makes the story shorter, keeps it, and fails with what was broken. */
async function keep(story: Story, violations: string[]) {
  const shorter = await shrink(story, kindOf(violations[0] ?? ""));
  const path = join(keptFolder, `seed-${story.seed}.json`);
  mkdirSync(keptFolder, { recursive: true });
  writeFileSync(path, `${JSON.stringify(shorter, null, 2)}\n`);
  throw new Error(
    [
      `Seed ${story.seed} breaks what must hold:`,
      ...violations.map((what) => `- ${what}`),
      `${shorter.items.length} of its ${story.items.length} items are enough: ${path}`,
      `npm run sim -- --seed ${story.seed} --trace shows all of it.`,
    ].join("\n"),
  );
}
