import { code, cut, endOf, fenced, plain } from "../text/markdown.ts";
import { causeWords } from "./cause.ts";
import { failureDetail, failureWords } from "./failure.ts";
import { positionWords } from "./position.ts";
import {
  noteSentences,
  planLines,
  receiptTable,
  serviceLines,
  stageLine,
  unverified,
} from "./run-parts.ts";
import type { RunView } from "./run-view.ts";
import { stateWords } from "./state.ts";
import { count, duration, usageWords } from "./units.ts";

/** GitHub takes 65,536 characters in a comment; Trimo's stay well below, also in bytes. */
export const commentBytesMax = 60_000;

/** Where links of comments, checks and pull requests lead. */
export type Links = {
  run(runId: string): string;
  pull(repository: string, number: number): string;
};

/** By this a run's comment is found again when the answer to its creation was lost. */
export const commentMarker = (runId: string): string => `<!-- trimo:run=${runId} -->`;

/** A run's one comment, in Markdown: pure, from what is stored to what is shown. */
export function commentBody(view: RunView, links: Links, now: number): string {
  const lines = [commentMarker(view.run.id), ...bodyLines(view, links, now)];
  return cut(lines.join("\n"), commentBytesMax);
}

function bodyLines(view: RunView, links: Links, now: number): string[] {
  switch (view.run.state) {
    case "queued":
      return queued(view, links);
    case "claimed":
    case "running":
      return running(view, links, now);
    case "succeeded":
      return view.run.changed ? succeeded(view, links) : unchanged(view, links);
    case "cancelled":
      return cancelled(view, links);
    case "failed":
    case "timed_out":
    case "lost":
      return view.run.failureCode === "asked_question" ? asked(view, links) : failed(view, links);
  }
}

/** The head of a comment: the run's sign and number. */
const head = ({ run }: RunView): string => `${stateWords(run).sign} **Run ${run.number}**`;

function queued(view: RunView, links: Links): string[] {
  const { run, position } = view;
  const words = position ? positionWords(position) : { where: "queued", why: "" };
  return [
    `${head(view)} is queued for ${plain(run.requestedBy, 60)} · ${words.where} · [watch it](${links.run(run.id)})`,
    "",
    words.why,
    "",
    "<sub>`/trimo cancel` takes it out of the queue · the label `trimo:hold` holds it, `trimo:now` puts it first</sub>",
  ];
}

function running(view: RunView, links: Links, now: number): string[] {
  const { run } = view;
  const since = run.startedAt ? ` · ${duration(now - run.startedAt)}` : "";
  const who = run.daemon ? `${code(run.agent ?? "agent")} on ${code(run.daemon)}` : "";
  const first = [head(view), who].filter(Boolean).join(" · ");
  return [
    `${first}${since} · [watch it live](${links.run(run.id)})`,
    "",
    stageLine(view),
    ...commitLines(view),
    ...planLines(view),
    ...noteLines(view),
    "",
    `<sub>${whatOneCanDo(view)}</sub>`,
  ];
}

function whatOneCanDo({ run }: RunView): string {
  if (run.cancelledBy) {
    const kept = run.state === "running" ? "its work is kept" : "work it has done is kept";
    return `It is being stopped by ${plain(causeWords(run.cancelledBy), 80)}; ${kept}. A machine that is away hears of it when it is back.`;
  }
  const cancel = "`/trimo cancel` stops it and keeps the work";
  return run.acceptsMessages ? `\`/trimo tell …\` reaches the agent now · ${cancel}` : cancel;
}

function unchanged(view: RunView, links: Links): string[] {
  return [
    `${head(view)} found nothing to change for ${plain(view.run.requestedBy, 60)}${after(view)}.`,
    "",
    ...lastWords(view),
    ...receiptTable(view),
    ...noteLines(view),
    footer(view, links, "`/trimo run …` tries again with another prompt"),
  ];
}

function succeeded(view: RunView, links: Links): string[] {
  const { run, pipeline } = view;
  const ready = pipeline.pullState === "open" && !pipeline.adopted ? " is ready" : "";
  const pull = pipeline.pullNumber
    ? ` · [pull request #${pipeline.pullNumber}](${links.pull(pipeline.repository, pipeline.pullNumber)})${ready}`
    : "";
  return [
    `${head(view)} finished ${plain(run.requestedBy, 60)}'s request${after(view)} · ${count(view.commits.length, "commit")}${pull}`,
    "",
    ...lastWords(view),
    ...(view.receipts.length > 0 ? receiptTable(view) : [unverified, ""]),
    ...noteLines(view),
    footer(view, links, "next: `/trimo fix …`, `/trimo continue …`, `/trimo done`"),
  ];
}

function cancelled(view: RunView, links: Links): string[] {
  const { run, pipeline } = view;
  const by = run.cancelledBy ? causeWords(run.cancelledBy) : "somebody";
  const next = pipeline.state === "open" ? "`/trimo continue …` goes on from there" : null;
  return [
    `${head(view)} was cancelled by ${plain(by, 120)}${after(view)}.`,
    "",
    safeWords(view),
    ...noteLines(view),
    footer(view, links, next),
  ];
}

function failed(view: RunView, links: Links): string[] {
  const { run } = view;
  const words = run.failureCode ? failureWords[run.failureCode] : null;
  const detail = failureDetail(run);
  const what = words ? `: **${words.title}** (${code(run.failureCode ?? "")})` : "";
  return [
    `${head(view)} stopped${after(view)}${what}`,
    "",
    ...(detail ? [fenced(endOf(detail, 3_000)), ""] : []),
    ...receiptTable(view),
    ...serviceLines(view),
    `${safeWords(view)} ${words?.fix ?? ""}`.trim(),
    ...noteLines(view),
    footer(view, links, null),
  ];
}

function asked(view: RunView, links: Links): string[] {
  const { run } = view;
  return [
    `❓ **Run ${run.number}** stopped${after(view)} with a question from ${code(run.agent ?? "agent")}:`,
    "",
    `> ${plain(run.failureDetail ?? "", 2_000)}`,
    "",
    safeWords(view),
    footer(view, links, "`/trimo continue …` with the answer goes on from there"),
  ];
}

function noteLines(view: RunView): string[] {
  const all = noteSentences(view);
  return all.length > 0 ? ["", `<sub>${all.join(" ")}</sub>`] : [];
}

/** That the work made so far is kept. */
function safeWords({ commits, pipeline, kept }: RunView): string {
  if (kept?.commits) return "Its commits are kept on the machine.";
  if (commits.length === 0) return "Nothing had been committed.";
  const made = `The ${count(commits.length, "commit")} made before`;
  return `${made} ${commits.length === 1 ? "is" : "are"} safe on ${code(pipeline.branch)}.`;
}

function after({ run }: RunView): string {
  if (!run.endedAt) return "";
  return ` after ${duration(run.endedAt - (run.startedAt ?? run.createdAt))}`;
}

function lastWords({ run, words }: RunView): string[] {
  if (!words) return [];
  return [`> ${plain(words, 1_000)}`, `> — ${code(run.agent ?? "agent")}`, ""];
}

function commitLines({ commits }: RunView): string[] {
  if (commits.length === 0) return [];
  const shown = commits
    .slice(-10)
    .map((c) => `${code(c.sha.slice(0, 7))} ${plain(c.subject, 100)}`);
  return ["", `${count(commits.length, "commit")} so far: ${shown.join(" · ")}`];
}

function footer(view: RunView, links: Links, next: string | null): string {
  const { run } = view;
  const who = [run.agent, run.image, run.daemon].filter((part) => part !== null);
  const shown = [
    ...who.map((part) => plain(part, 100)),
    ...usageWords(view.usage),
    `[run](${links.run(run.id)})`,
    next,
  ];
  return `\n<sub>${shown.filter(Boolean).join(" · ")}</sub>`;
}
