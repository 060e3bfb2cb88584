import { parseArgs } from "node:util";
import { play } from "./play.ts";
import { kindOf, shrink } from "./shrink.ts";
import { storyOf } from "./story.ts";

// npm run sim -- --seed 17 --trace · npm run sim -- --from 1 --to 1000

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    from: { type: "string", default: "1" },
    to: { type: "string", default: "300" },
    trace: { type: "boolean", default: false },
    shrink: { type: "boolean", default: false },
  },
});
const from = Number(values.seed ?? values.from);
const to = Number(values.seed ?? values.to);
const began = performance.now();
const kinds = new Map<string, number[]>();
let steps = 0;
let runs = 0;
for (let seed = from; seed <= to; seed++) {
  const story = storyOf(seed);
  const played = await play(story);
  steps += played.steps;
  runs += played.runs;
  if (values.trace) for (const line of played.trace) console.log(line);
  for (const what of played.violations) {
    console.log(`seed ${seed}: ${what}`);
    const kind = kindOf(what);
    kinds.set(kind, [...(kinds.get(kind) ?? []), seed]);
  }
  if (values.shrink && played.violations[0])
    console.log(JSON.stringify(await shrink(story, kindOf(played.violations[0]))));
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
