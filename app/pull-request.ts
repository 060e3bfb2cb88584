import type { Links } from "./comment.ts";
import { receiptTable } from "./comment.ts";
import type { Pipeline } from "./pipeline.ts";
import type { Run } from "./run.ts";
import type { RunView } from "./view.ts";
import { code, count, plain, stateSigns } from "./wording.ts";

/** Ours lies between these; what people write outside them stays. */
const opening = "<!-- trimo:begin -->";
const closing = "<!-- trimo:end -->";

export function pullTitle(pipeline: Pipeline): string {
  return pipeline.title.slice(0, 250);
}

/** The first line of the opening commit. */
export function openingMessage(pipeline: Pipeline): string {
  const title = pipeline.title.replace(/\s+/g, " ").trim().slice(0, 100);
  return `Start #${pipeline.issue}: ${title}\n\nTrimo-Pipeline: ${pipeline.id}\n`;
}

/** The body with our part written anew, and everything else as it was. */
export function pullBody(
  existing: string,
  pipeline: Pipeline,
  runs: Run[],
  last: RunView | null,
  links: Links,
): string {
  const ours = [opening, ...story(pipeline, runs, last, links), closing].join("\n");
  const begin = existing.indexOf(opening);
  const end = existing.indexOf(closing);
  if (begin < 0 || end < begin) return existing.trim() ? `${existing.trimEnd()}\n\n${ours}` : ours;
  return existing.slice(0, begin) + ours + existing.slice(end + closing.length);
}

function story(pipeline: Pipeline, runs: Run[], last: RunView | null, links: Links): string[] {
  const rows = runs.map((run) => {
    const prompt = plain(run.prompt.trim().split("\n")[0] ?? "", 80);
    const state = `${run.state === "succeeded" && !run.changed ? "⚪" : stateSigns[run.state]} ${run.state.replace("_", " ")}`;
    return `| [${run.number}](${links.run(run.id)}) | ${prompt} | ${plain(run.requestedBy, 40)} | ${run.agent ? code(run.agent) : "–"} | ${state} |`;
  });
  return [
    `Closes #${pipeline.issue}`,
    "",
    ...(last?.words ? [`> ${plain(last.words, 1_000)}`, ""] : []),
    ...(last ? receiptTable(last) : []),
    "| run | prompt | asked by | agent | result |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    "",
    `<sub>${count(runs.length, "run")} by Trimo</sub>`,
  ];
}

/** What a draft says when its pipeline ended without a change. */
export const closedWithoutChange =
  "There was nothing to change, so this draft is closed and its branch removed.";
