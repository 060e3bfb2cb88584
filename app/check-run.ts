import { receiptTable, stageLine } from "./comment.ts";
import type { CheckBody, Conclusion } from "./github.ts";
import type { RunState } from "./schema.ts";
import type { RunView } from "./view.ts";
import { code, count, duration, endOf, failureWords, fenced, plain } from "./wording.ts";

/** GitHub takes 65,535 bytes each in summary and text. */
const bytesMax = 60_000;

const conclusions: Partial<Record<RunState, Conclusion>> = {
  succeeded: "success",
  failed: "failure",
  cancelled: "cancelled",
  timed_out: "timed_out",
  lost: "failure",
};

/** A run's check run on the branch's newest commit: pure, from what is stored to what is shown. */
export function checkBody(view: RunView, detailsUrl: string, now: number): CheckBody {
  const { run } = view;
  const conclusion = run.state === "succeeded" && !run.changed ? "neutral" : conclusions[run.state];
  const status = conclusion ? "completed" : run.state === "running" ? "in_progress" : "queued";
  return {
    status,
    ...(conclusion ? { conclusion } : {}),
    ...(run.startedAt ? { startedAt: new Date(run.startedAt).toISOString() } : {}),
    ...(run.endedAt ? { completedAt: new Date(run.endedAt).toISOString() } : {}),
    detailsUrl,
    title: title(view, now),
    summary: cut(summary(view)),
    text: cut(text(view)),
  };
}

/** What a check run on an older commit becomes when the branch has moved on. */
export function supersededBody(detailsUrl: string, sha: string, now: number): CheckBody {
  const short = sha.slice(0, 7);
  return {
    status: "completed",
    conclusion: "neutral",
    completedAt: new Date(now).toISOString(),
    detailsUrl,
    title: `Superseded by ${short}`,
    summary: `The branch has moved on: this run's check is on ${sha}.`,
  };
}

function title(view: RunView, now: number): string {
  const { run, receipts, commits } = view;
  const words = run.failureCode ? failureWords[run.failureCode].title : null;
  switch (run.state) {
    case "queued":
      return view.ahead === 0
        ? "Queued, next in line"
        : `Queued, ${count(view.ahead, "run")} ahead`;
    case "claimed":
      return `Claimed by ${run.daemon}`;
    case "running": {
      const time = run.startedAt ? ` · ${duration(now - run.startedAt)}` : "";
      const made = commits.length > 0 ? ` · ${count(commits.length, "commit")}` : "";
      return `Run ${run.number}: ${run.stage ?? "preparing"}${time}${made}`;
    }
    case "succeeded":
      if (!run.changed) return "Nothing to change";
      return receipts.length > 0
        ? `Verified: ${receipts.map((r) => short(r.command)).join(", ")} ✅`.slice(0, 200)
        : `Done, ${count(commits.length, "commit")}, nothing to verify`;
    case "failed": {
      const red = receipts.find((receipt) => receipt.exitCode !== 0);
      return red
        ? `Verify failed: ${short(red.command)} ❌ exit ${red.exitCode}`
        : `Failed: ${(words ?? "see below").replaceAll("`", "")}`;
    }
    case "cancelled":
      return `Cancelled by ${run.cancelledBy ?? "somebody"}`;
    case "timed_out":
      return "Timed out";
    case "lost":
      return "Lost: the machine went away";
  }
}

const short = (command: string): string => command.replace(/\s+/g, " ").slice(0, 60);

function summary(view: RunView): string {
  const { run, receipts, commits } = view;
  const words = run.failureCode ? failureWords[run.failureCode] : null;
  const time = run.endedAt ? duration(run.endedAt - (run.startedAt ?? run.createdAt)) : "–";
  const red = receipts.filter((receipt) => receipt.exitCode !== 0 && receipt.tail);
  return [
    "| agent | machine | image | asked by | time |",
    "| --- | --- | --- | --- | --- |",
    `| ${run.agent ? code(run.agent) : "–"} | ${run.daemon ? code(run.daemon) : "–"} | ${run.image ? code(run.image) : "–"} | ${plain(run.requestedBy, 60)} | ${time} |`,
    "",
    view.stages.length > 0 ? stageLine(view) : "",
    "",
    ...(words ? [`**${words.title}** (${code(run.failureCode ?? "")}). ${words.mend}`, ""] : []),
    ...(run.failureDetail ? [fenced(endOf(run.failureDetail, 4_000)), ""] : []),
    ...receiptTable(view),
    ...red.flatMap((receipt) => [
      `${code(receipt.command.slice(0, 200))} ended with:`,
      "",
      fenced(endOf(receipt.tail, 6_000)),
      "",
    ]),
    ...(commits.length > 0 ? [`${count(commits.length, "commit")}:`, ""] : []),
    ...commits.slice(-50).map((c) => `- ${c.sha} ${plain(c.subject, 150)}`),
  ].join("\n");
}

function text(view: RunView): string {
  const rows = view.lines.map(
    ({ at, text: line }) => `- ${new Date(at).toISOString().slice(11, 19)} ${plain(line, 300)}`,
  );
  return rows.join("\n");
}

/** Bytes, not characters, are what GitHub counts; cut at a line, with the fence closed. */
function cut(markdown: string): string {
  if (Buffer.byteLength(markdown) <= bytesMax) return markdown;
  const bytes = Buffer.from(markdown)
    .subarray(0, bytesMax)
    .toString("utf8")
    .replace(/\ufffd+$/, "");
  const kept = bytes.slice(0, bytes.lastIndexOf("\n"));
  const fences = kept.split("\n").filter((line) => line.startsWith("```")).length;
  return `${kept}\n${fences % 2 === 1 ? "```\n" : ""}…`;
}
