import { type Mistake, mistakeLine } from "../protocol/trimo-yml.ts";
import { plain } from "../text/markdown.ts";

/** The most mistakes that are shown; whoever fixes them sees the rest. */
const shownMax = 20;

/** Mistakes of trimo.yml as a list in Markdown, each with its line. */
export function mistakeList(mistakes: Mistake[]): string {
  const rest = mistakes.length - shownMax;
  const lines = mistakes
    .slice(0, shownMax)
    .map((mistake) => `- ${plain(mistakeLine(mistake), 300)}`);
  return [...lines, ...(rest > 0 ? [`- and ${rest} more`] : [])].join("\n");
}
