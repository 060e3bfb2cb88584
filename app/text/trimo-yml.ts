import { parseDocument } from "yaml";
import { answer, type Parts, type Place } from "../intents/intent.ts";
import {
  type Mistake,
  mistakeLine,
  readTrimoYml,
  type TrimoYml,
  trimoYmlPath,
} from "../protocol/trimo-yml.ts";
import { code, plain } from "../view/wording.ts";
import { isTime } from "./times.ts";

export type ReadConfig = { config: TrimoYml; mistakes: Mistake[] };

/** Mistakes shown at most; who mends them sees the rest. */
const shownMax = 20;

/** `.github/trimo.yml` as text → what it says, or every mistake with its line. */
export function parseTrimoYml(text: string | null): ReadConfig {
  const read = readTrimoYml(text, (source) => parseDocument(source, { prettyErrors: true }));
  const odd = (read.config.discover ?? []).flatMap((source) =>
    "schedule" in source && !isTime(source.schedule) ? [source.schedule] : [],
  );
  if (odd.length === 0) return read;
  const lines = (text ?? "").split("\n");
  const mistakes = odd.map((schedule) => ({
    line: lines.findIndex((line) => line.includes(schedule)) + 1 || null,
    text: `\`discover\`: "${schedule}" is no time that comes`,
  }));
  return { config: keptOf(read.config), mistakes };
}

const keptOf = ({ commands }: TrimoYml): TrimoYml => (commands ? { commands } : {});

/** What the default branch's trimo.yml says now; with mistakes nothing of it counts. */
export async function readConfig(
  { github }: Pick<Parts, "github">,
  { workspace, repository }: Pick<Place, "workspace" | "repository">,
): Promise<ReadConfig> {
  const { fullName, defaultBranch } = repository;
  const text = await github.workspace(workspace).file(fullName, trimoYmlPath, defaultBranch);
  return parseTrimoYml(text);
}

/** No run is started while the file has mistakes; each is named with its line. */
export async function sayMistakes(parts: Parts, place: Place, mistakes: Mistake[]) {
  const where = code(place.repository.defaultBranch);
  const words = `No run was started: \`${trimoYmlPath}\` on ${where} has mistakes.`;
  await answer(parts, place, "config", `${words}\n\n${mistakeList(mistakes)}`);
}

export function mistakeList(mistakes: Mistake[]): string {
  const rest = mistakes.length - shownMax;
  const lines = mistakes
    .slice(0, shownMax)
    .map((mistake) => `- ${plain(mistakeLine(mistake), 300)}`);
  return [...lines, ...(rest > 0 ? [`- and ${rest} more`] : [])].join("\n");
}
