import type { Pipeline } from "../state/pipeline.ts";
import type { Run } from "../state/run.ts";
import { code, plain } from "../text/markdown.ts";
import type { Links } from "./comment-body.ts";
import { receiptTable } from "./run-parts.ts";
import type { RunView } from "./run-view.ts";
import { stateWords } from "./state.ts";
import { count, type Usage, usageWords } from "./units.ts";

/** Trimo's part of a pull request lies between these; what people write outside them stays. */
const opening = "<!-- trimo:begin -->";
const closing = "<!-- trimo:end -->";

/** The title of a pipeline's pull request, in plain text. */
export function pullTitle(pipeline: Pipeline): string {
  return harmless(pipeline.title).slice(0, 250);
}

/** The message of the opening commit. */
export function openingMessage(pipeline: Pipeline): string {
  const title = harmless(pipeline.title).slice(0, 100);
  return `Start #${pipeline.issue}: ${title}\n\nTrimo-Pipeline: ${pipeline.id}\n`;
}

/** A title that closes no issue, mentions nobody and steers no CI when it is merged. */
function harmless(title: string): string {
  return title
    .replace(/\s+/g, " ")
    .trim()
    .replace(/#(?=\d)/g, "#\u200b")
    .replace(/\bGH-(?=\d)/gi, "GH-\u200b")
    .replace(/@(?=\w)/g, "@\u200b")
    .replace(/\[(?=[^\]]*\b(?:skip|ci|no)\b)/gi, "[\u200b");
}

/** What Trimo's part of a pull request tells. */
type Told = {
  pipeline: Pipeline;
  /** All its runs, oldest first. */
  runs: Run[];
  /** Views of its last runs, oldest first. */
  views: RunView[];
};

/** The body of a pull request with Trimo's part written anew, and everything else as it was. */
export function pullBody(existing: string, told: Told, links: Links): string {
  // Somebody's words must not look like a marker of Trimo's.
  const inner = innerLines(told, links).join("\n").replaceAll("<!--", "<!\u200b--");
  const ours = [opening, inner, closing].join("\n");
  const begin = existing.indexOf(opening);
  const end = existing.indexOf(closing);
  if (begin < 0 || end < begin) return existing.trim() ? `${existing.trimEnd()}\n\n${ours}` : ours;
  return existing.slice(0, begin) + ours + existing.slice(end + closing.length);
}

function innerLines({ pipeline, runs, views }: Told, links: Links): string[] {
  const last = views.at(-1) ?? null;
  // What each did, not only the last: a reviewer reads all of it.
  const before = views
    .filter((view) => view.words && view !== last)
    .map((view) => `- run ${view.run.number}: ${plain(view.words ?? "", 300)}`);
  return [
    `Closes #${pipeline.issue}`,
    "",
    ...(last?.words
      ? [`> ${plain(last.words, 1_000)}`, `> — ${code(last.run.agent ?? "agent")}`, ""]
      : []),
    ...(last && last.receipts.length > 0 ? receiptTable(last) : []),
    ...(before.length > 0 ? ["Before that:", "", ...before, ""] : []),
    "| run | prompt | requested by | agent | result |",
    "| --- | --- | --- | --- | --- |",
    ...runs.map((run) => runRow(run, links)),
    "",
    `<sub>${[`${count(runs.length, "run")} by Trimo`, ...usageWords(sumOf(runs))].join(" · ")}</sub>`,
  ];
}

function runRow(run: Run, links: Links): string {
  const prompt = plain(run.prompt.trim().split("\n")[0] ?? "", 80);
  const agent = run.agent ? code(run.agent) : "–";
  const { sign, words } = stateWords(run);
  const number = `[${run.number}](${links.run(run.id)})`;
  return `| ${number} | ${prompt} | ${plain(run.requestedBy, 40)} | ${agent} | ${sign} ${words} |`;
}

/** What all runs of the pipeline have used. */
function sumOf(runs: Run[]): Usage {
  const sum = (of: (run: Run) => number) => runs.reduce((all, run) => all + of(run), 0);
  const inputTokens = sum((run) => run.tokens);
  return { inputTokens, outputTokens: 0, costMicroUsd: sum((run) => run.costMicroUsd) };
}
