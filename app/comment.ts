import type { RunView } from "./view.ts";
import {
  code,
  count,
  duration,
  endOf,
  failureWords,
  fenced,
  plain,
  stateSigns,
} from "./wording.ts";

/** GitHub takes 65,536 characters in a comment; ours stay well below. */
const commentMax = 60_000;

export type Links = {
  run(runId: string): string;
  pull(repository: string, number: number): string;
};

/** By this a comment is found again when the answer to its creation was lost. */
export const commentMarker = (runId: string): string => `<!-- trimo:run=${runId} -->`;

/** A run's one comment: pure, from what is stored to what is shown. */
export function commentBody(view: RunView, links: Links, now: number): string {
  const body = [commentMarker(view.run.id), ...lines(view, links, now)].join("\n");
  return body.length > commentMax ? `${body.slice(0, commentMax)}\n…` : body;
}

function lines(view: RunView, links: Links, now: number): string[] {
  const { run } = view;
  switch (run.state) {
    case "queued":
      return queued(view, links);
    case "claimed":
    case "running":
      return running(view, links, now);
    case "succeeded":
      return succeeded(view, links);
    case "cancelled":
      return [
        `${stateSigns.cancelled} **Run ${run.number}** was cancelled by ${plain(run.cancelledBy ?? "somebody", 60)}${after(view)}.`,
        "",
        kept(view),
        footer(view, links, "`/trimo continue …` goes on from there"),
      ];
    default:
      return failed(view, links);
  }
}

function queued({ run, ahead }: RunView, links: Links): string[] {
  const place = ahead === 0 ? "next in line" : `${count(ahead, "run")} ahead of it`;
  return [
    `${stateSigns.queued} **Run ${run.number}** is queued for ${plain(run.requestedBy, 60)} · ${place} · [watch it](${links.run(run.id)})`,
    "",
    "<sub>`/trimo cancel` takes it out of the line</sub>",
  ];
}

function running(view: RunView, links: Links, now: number): string[] {
  const { run } = view;
  const since = run.startedAt ? ` · ${duration(now - run.startedAt)}` : "";
  const who = run.daemon ? `${code(run.agent ?? "agent")} on ${code(run.daemon)}` : "";
  const parts = [`${stateSigns.running} **Run ${run.number}**`, who].filter(Boolean).join(" · ");
  return [
    `${parts}${since} · [watch it live](${links.run(run.id)})`,
    "",
    stageLine(view),
    ...commitLines(view),
    "",
    "<sub>`/trimo cancel` stops it and keeps the work</sub>",
  ];
}

function succeeded(view: RunView, links: Links): string[] {
  const { run, pipeline } = view;
  const who = plain(run.requestedBy, 60);
  if (!run.changed)
    return [
      `⚪ **Run ${run.number}** found nothing to change for ${who}${after(view)}.`,
      "",
      ...saidBy(view),
      ...receiptTable(view),
      footer(view, links, "`/trimo run …` with other words tries again"),
    ];
  const pull = pipeline.pullNumber
    ? ` · [pull request #${pipeline.pullNumber}](${links.pull(pipeline.repository, pipeline.pullNumber)}) is ready`
    : "";
  return [
    `${stateSigns.succeeded} **Run ${run.number}** finished ${who}'s request${after(view)} · ${count(view.commits.length, "commit")}${pull}`,
    "",
    ...saidBy(view),
    ...receiptTable(view),
    footer(view, links, "next: `/trimo fix …`, `/trimo continue …`"),
  ];
}

function failed(view: RunView, links: Links): string[] {
  const { run } = view;
  const words = run.failureCode ? failureWords[run.failureCode] : null;
  const what = words ? `: **${words.title}** (${code(run.failureCode ?? "")})` : "";
  return [
    `${stateSigns[run.state]} **Run ${run.number}** stopped${after(view)}${what}`,
    "",
    ...(run.failureDetail ? [fenced(endOf(run.failureDetail, 3_000)), ""] : []),
    ...receiptTable(view),
    `${kept(view)} ${words?.mend ?? ""}`.trim(),
    footer(view, links, null),
  ];
}

function kept({ commits, pipeline }: RunView): string {
  if (commits.length === 0) return "Nothing had been committed.";
  const made = `The ${count(commits.length, "commit")} made before`;
  return `${made} ${commits.length === 1 ? "is" : "are"} safe on ${code(pipeline.branch)}.`;
}

function after({ run }: RunView): string {
  if (!run.endedAt) return "";
  return ` after ${duration(run.endedAt - (run.startedAt ?? run.createdAt))}`;
}

function saidBy({ run, words }: RunView): string[] {
  if (!words) return [];
  return [`> ${plain(words, 1_000)}`, `> — ${code(run.agent ?? "agent")}`, ""];
}

/** `✅ preparing 0.4 s → 🔄 **agent** → …` */
export function stageLine({ stages }: RunView): string {
  if (stages.length === 0) return "Waiting for the container.";
  return stages
    .map(({ stage, durationMs }) =>
      durationMs === null ? `🔄 **${stage}**` : `✅ ${stage} ${duration(durationMs)}`,
    )
    .join(" → ");
}

function commitLines({ commits }: RunView): string[] {
  if (commits.length === 0) return [];
  const shown = commits
    .slice(-10)
    .map((c) => `${code(c.sha.slice(0, 7))} ${plain(c.subject, 100)}`);
  return ["", `${count(commits.length, "commit")} so far: ${shown.join(" · ")}`];
}

/** What Trimo ran itself, and what came of it. */
export function receiptTable({ receipts }: RunView): string[] {
  if (receipts.length === 0) return [];
  const rows = receipts.map((receipt) => {
    const result = receipt.exitCode === 0 ? "✅ passed" : `❌ exit ${receipt.exitCode}`;
    const command = code(receipt.command.slice(0, 200)).replaceAll("|", "\\|");
    return `| ${command} | ${result} | ${duration(receipt.durationMs)} |`;
  });
  return ["| verified by Trimo | result | time |", "| --- | --- | --- |", ...rows, ""];
}

function footer(view: RunView, links: Links, next: string | null): string {
  const { run } = view;
  const parts = [run.agent, run.image, run.daemon].filter((part) => part !== null);
  const shown = [...parts.map((part) => plain(part, 100)), `[run](${links.run(run.id)})`, next];
  return `\n<sub>${shown.filter(Boolean).join(" · ")}</sub>`;
}
