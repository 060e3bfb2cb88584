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
/** Of them, the part that the daemon's real code plays; it takes longer. */
const realPart = 0.2;
/** Seeds of one test. */
const perTest = 20;
const root = fileURLToPath(new URL("../..", import.meta.url));

/** Tests of every `parts`-th group of seeds, beginning with the `part`-th: files run side by side. */
export function testSeeds(part: number, parts: number) {
  for (const real of [true, false]) {
    const count = Math.round(seeds * (real ? realPart : 1 - realPart));
    const daemons = real ? "real daemons" : "a daemon's model";
    for (let group = part; group * perTest < count; group += parts) {
      const from = group * perTest + 1;
      const to = Math.min(count, from + perTest - 1);
      test(`nothing is lost, doubled or out of order: ${daemons}, seeds ${from} to ${to}`, async () => {
        const args = ["--from", `${from}`, "--to", `${to}`, ...(real ? ["--real"] : [])];
        const { exit, output } = await playAll([...args, "--keep", "--twice", `${to}`]);
        if (exit !== 0) throw new Error(`npm run sim -- ${args.join(" ")}\n${output}`);
      });
    }
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
function playAll(args: string[]): Promise<{ exit: number; output: string }> {
  const command = ["--import", "tsx", "test/sim/sim.ts", ...args];
  return new Promise((resolve) => {
    execFile(process.execPath, command, { cwd: root }, (error, stdout, stderr) =>
      resolve({ exit: error ? 1 : 0, output: `${stdout}${stderr}` }),
    );
  });
}
