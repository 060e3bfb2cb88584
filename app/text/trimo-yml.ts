import { Lexer, Parser, parseDocument } from "yaml";
import { type Mistake, readTrimoYml, type TrimoYml } from "../protocol/trimo-yml.ts";
import { isSchedule } from "./times.ts";

/** What trimo.yml says; with mistakes only who may use which command counts of it. */
export type ReadConfig = { config: TrimoYml; mistakes: Mistake[] };

/** `.github/trimo.yml` as text → what it says, or every mistake with its line. Null: there is no file. */
export function parseTrimoYml(text: string | null): ReadConfig {
  const read = readTrimoYml(text, { Lexer, Parser, parseDocument });
  const odd = (read.config.discover ?? []).flatMap((source) =>
    "schedule" in source && !isSchedule(source.schedule) ? [source.schedule] : [],
  );
  if (odd.length === 0) return read;
  const lines = (text ?? "").split("\n");
  const mistakes = odd.map((schedule) => ({
    line: lines.findIndex((line) => line.includes(schedule)) + 1 || null,
    text: `\`discover\`: "${schedule}" is a time that never comes`,
  }));
  const { commands } = read.config;
  return { config: commands ? { commands } : {}, mistakes };
}
