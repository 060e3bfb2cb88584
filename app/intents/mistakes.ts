import type { Mistake } from "../protocol/trimo-yml.ts";
import { answer, type Parts, type Source } from "./intent.ts";

/** The most mistakes that are stored with an answer; whoever fixes them sees the rest. */
const mistakesMax = 50;

/** Says that no run is started while trimo.yml has mistakes, and names each with its line. */
export async function answerMistakes(parts: Parts, source: Source, mistakes: Mistake[]) {
  const branch = source.repository.defaultBranch;
  await answer(parts, source, {
    kind: "config_mistakes",
    branch,
    mistakes: mistakes.slice(0, mistakesMax),
  });
}
