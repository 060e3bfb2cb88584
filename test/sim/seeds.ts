import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { keptFolder } from "./keep.ts";
import { play } from "./play.ts";
import type { Story } from "./story.ts";

/** How many seeds are played; `.ci/run` plays more. */
const seeds = Number(process.env.TRIMO_SIM_SEEDS ?? 300);
/** Seeds of one test. */
const perTest = 25;
const root = fileURLToPath(new URL("../..", import.meta.url));

/** Tests of every `parts`-th group of seeds, beginning with the `part`-th: files run side by side. */
export function testSeeds(part: number, parts: number) {
  for (let group = part; group * perTest < seeds; group += parts) {
    const from = group * perTest + 1;
    const to = Math.min(seeds, from + perTest - 1);
    test(`nothing is lost, doubled or out of order: seeds ${from} to ${to}`, async () => {
      const { exit, output } = await playAll(from, to);
      if (exit !== 0) throw new Error(`npm run sim -- --from ${from} --to ${to}\n${output}`);
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

/** In a process of its own: the same code takes twice as long inside of vitest. */
function playAll(from: number, to: number): Promise<{ exit: number; output: string }> {
  const args = ["--import", "tsx", "test/sim/sim.ts", "--from", `${from}`, "--to", `${to}`];
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [...args, "--keep", "--twice", `${to}`],
      { cwd: root },
      (error, stdout, stderr) => resolve({ exit: error ? 1 : 0, output: `${stdout}${stderr}` }),
    );
  });
}
