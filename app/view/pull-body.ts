import type { Pipeline } from "../state/pipeline.ts";
import type { Run } from "../state/run.ts";
import type { Links } from "./comment-body.ts";
import { receiptTable } from "./comment-body.ts";
import type { RunView } from "./run-view.ts";
import { code, count, plain, stateSigns, usageWords } from "./wording.ts";

/** Ours lies between these; what people write outside them stays. */
const opening = "<!-- trimo:begin -->";
const closing = "<!-- trimo:end -->";

export function pullTitle(pipeline: Pipeline): string {
  return harmless(pipeline.title).slice(0, 250);
}

/** The first line of the opening commit. */
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

/** The body with our part written anew, and everything else as it was. */
export function pullBody(
  existing: string,
  pipeline: Pipeline,
  runs: Run[],
  /** Of its last runs, oldest first. */
  views: RunView[],
  links: Links,
): string {
  // Somebody's words must not look like a marker of ours.
  const inner = story(pipeline, runs, views, links).join("\n").replaceAll("<!--", "<!\u200b--");
  const ours = [opening, inner, closing].join("\n");
  const begin = existing.indexOf(opening);
  const end = existing.indexOf(closing);
  if (begin < 0 || end < begin) return existing.trim() ? `${existing.trimEnd()}\n\n${ours}` : ours;
  return existing.slice(0, begin) + ours + existing.slice(end + closing.length);
}

function story(pipeline: Pipeline, runs: Run[], views: RunView[], links: Links): string[] {
  const last = views.at(-1) ?? null;
  // What each did, not only the last: a reviewer reads all of it.
  const done = views
    .filter((view) => view.words && view !== last)
    .map((view) => `- run ${view.run.number}: ${plain(view.words ?? "", 300)}`);
  const rows = runs.map((run) => {
    const prompt = plain(run.prompt.trim().split("\n")[0] ?? "", 80);
    const state = `${run.state === "succeeded" && !run.changed ? "⚪" : stateSigns[run.state]} ${run.state.replace("_", " ")}`;
    return `| [${run.number}](${links.run(run.id)}) | ${prompt} | ${plain(run.requestedBy, 40)} | ${run.agent ? code(run.agent) : "–"} | ${state} |`;
  });
  return [
    `Closes #${pipeline.issue}`,
    "",
    ...(last?.words
      ? [`> ${plain(last.words, 1_000)}`, `> — ${code(last.run.agent ?? "agent")}`, ""]
      : []),
    ...(last && last.receipts.length > 0 ? receiptTable(last) : []),
    ...(done.length > 0 ? ["Before that:", "", ...done, ""] : []),
    "| run | prompt | asked by | agent | result |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    "",
    `<sub>${[`${count(runs.length, "run")} by Trimo`, ...usageWords(sumOf(runs))].join(" · ")}</sub>`,
  ];
}

/** What all runs of the pipeline have used up. */
function sumOf(runs: Run[]) {
  const sum = (of: (run: Run) => number) => runs.reduce((all, run) => all + of(run), 0);
  const inputTokens = sum((run) => run.tokens);
  return { inputTokens, outputTokens: 0, costMicroUsd: sum((run) => run.costMicroUsd) };
}

/** What a draft says when its pipeline ended without a change. */
export const closedWithoutChange =
  "There was nothing to change, so this draft is closed and its branch removed.";
