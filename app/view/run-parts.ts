import { code, endOf, fenced, plain } from "../text/markdown.ts";
import type { RunView } from "./run-view.ts";
import { driftWords, keptWords, sessionWords } from "./sentence.ts";
import { count, duration } from "./units.ts";

// Parts of a run in Markdown that its comment, its check run and its pull request share.

/** That nothing proves a run's work: success is what a verify command has seen. */
export const unverified =
  "Not verified: `.github/trimo.yml` names no `verify` command, so nothing proves this result.";

/** The receipts as a table, and an empty line; nothing where there are none. */
export function receiptTable({ receipts }: Pick<RunView, "receipts">): string[] {
  if (receipts.length === 0) return [];
  const rows = receipts.map((receipt) => {
    const result = receipt.exitCode === 0 ? "✅ passed" : `❌ exit ${receipt.exitCode}`;
    const command = code(receipt.command.slice(0, 200)).replaceAll("|", "\\|");
    return `| ${command} | ${result} | ${duration(receipt.durationMs)} |`;
  });
  return ["| verified by Trimo | result | time |", "| --- | --- | --- |", ...rows, ""];
}

/** The stages on one line: `✅ preparing 0.4 s → 🔄 **agent** → …` */
export function stageLine({ stages }: RunView): string {
  if (stages.length === 0) return "The container is starting.";
  return stages
    .map(({ stage, durationMs }) =>
      durationMs === null ? `🔄 **${stage}**` : `✅ ${stage} ${duration(durationMs)}`,
    )
    .join(" → ");
}

/** The agent's plan as it is now, behind an empty line; nothing where it has none. */
export function planLines({ plan }: RunView): string[] {
  if (!plan || plan.length === 0) return [];
  return ["", ...plan.map(({ text, done }) => `- [${done ? "x" : " "}] ${plain(text, 200)}`)];
}

/** What went with the prompt, what the agent knows, and how the base has moved on: a sentence each. */
export function noteSentences({ run, notes, drift, pipeline, session, kept }: RunView): string[] {
  const all = notes.map((note) => plain(note, 300));
  if (kept) all.push(keptSentence(kept, code(run.daemon ?? "its machine")));
  if (session) all.push(plain(sessionWords(session), 400));
  if (!drift || drift.behind === 0) return all;
  const more = `${code(pipeline.baseBranch)} has ${count(drift.behind, "more commit")}`;
  return [...all, `${more}${plain(driftWords(drift.conflicts), 400)}; nothing was merged.`];
}

function keptSentence(kept: NonNullable<RunView["kept"]>, machine: string): string {
  const [is, them] = kept.commits ? ["are", "them"] : ["is", "it"];
  const push = kept.commits ? " Trimo tries to push the commits each hour." : "";
  const what = keptWords(kept);
  return `${what[0]?.toUpperCase()}${what.slice(1)} ${is} kept on ${machine}; \`trimo kept\` there shows how to get ${them}.${push}`;
}

/** What the services printed when something failed: the end of each log, the dead ones first. */
export function serviceLines({ services }: RunView): string[] {
  const shown = services.filter(({ state, tail }) => state === "died" || tail);
  const order = shown.toSorted((a, b) => Number(b.state === "died") - Number(a.state === "died"));
  return order.flatMap(({ name, state, tail }) => [
    state === "died"
      ? `The service ${code(name)} ended while the run was working:`
      : `The end of the log of ${code(name)}:`,
    "",
    ...(tail ? [fenced(endOf(tail, 2_000)), ""] : []),
  ]);
}
