import { parseArgs } from "node:util";
import { keep } from "./keep.ts";
import { play } from "./play.ts";
import { kindOf } from "./shrink.ts";
import { storyOf } from "./story.ts";

// npm run sim -- --seed 17 --trace · npm run sim -- --from 1 --to 1000 · npm run sim -- --real --to 100

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    from: { type: "string", default: "1" },
    to: { type: "string", default: "300" },
    trace: { type: "boolean", default: false },
    /** The machines run the daemon's real code, not a model of it. */
    real: { type: "boolean", default: false },
    /** A story that breaks is made shorter and kept. */
    keep: { type: "boolean", default: false },
    /** A seed that is played twice, and must go the same way. */
    twice: { type: "string" },
  },
});
const from = Number(values.seed ?? values.from);
const to = Number(values.seed ?? values.to);
const began = performance.now();
const kinds = new Map<string, number[]>();
let steps = 0;
let runs = 0;
for (let seed = from; seed <= to; seed++) {
  const story = storyOf(seed, values.real);
  const played = await play(story);
  steps += played.steps;
  runs += played.runs;
  if (values.trace) for (const line of played.trace) console.log(line);
  for (const what of played.violations) {
    console.log(`seed ${seed}: ${what}`);
    const kind = kindOf(what);
    kinds.set(kind, [...(kinds.get(kind) ?? []), seed]);
  }
  const [first] = played.violations;
  if (values.keep && first) {
    const { path, items } = await keep(story, first);
    console.log(`${items} of its ${story.items.length} items are enough: ${path}`);
  }
  if (String(seed) === values.twice && (await play(story)).digest !== played.digest) {
    console.log(`seed ${seed}: played twice, it went another way`);
    kinds.set("played twice, it went another way", [seed]);
  }
}
const ms = performance.now() - began;
const count = to - from + 1;
const bad = new Set([...kinds.values()].flat()).size;
console.log(
  `${count} seeds, ${runs} runs, ${steps} steps, ${Math.round(ms / count)} ms a seed: ${bad} with violations`,
);
for (const [kind, seeds] of [...kinds].sort((a, b) => b[1].length - a[1].length))
  console.log(
    `${String(seeds.length).padStart(4)}  ${kind}  (seeds ${seeds.slice(0, 6).join(", ")})`,
  );
process.exit(bad > 0 ? 1 : 0);
