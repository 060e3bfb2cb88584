import type { Action, Annotation, CheckBody, Conclusion } from "../github/app.ts";
import { type Mistake, trimoYmlPath } from "../protocol/trimo-yml.ts";
import type { RunState } from "../state/schema.ts";
import { mistakeList } from "../text/trimo-yml.ts";
import {
  noteSentences,
  planLines,
  receiptTable,
  serviceLines,
  stageLine,
  unverified,
} from "./comment-body.ts";
import type { RunView } from "./run-view.ts";
import {
  code,
  count,
  cut,
  duration,
  endOf,
  failureWords,
  fenced,
  oneLine,
  placeWords,
  plain,
  usageWords,
} from "./wording.ts";

const titleMax = 200;
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
  const conclusion = concluded(view);
  const status = conclusion ? "completed" : run.state === "running" ? "in_progress" : "queued";
  return {
    status,
    ...(conclusion ? { conclusion } : {}),
    ...(run.startedAt ? { startedAt: new Date(run.startedAt).toISOString() } : {}),
    ...(run.endedAt ? { completedAt: new Date(run.endedAt).toISOString() } : {}),
    detailsUrl,
    title: oneLine(title(view, now), titleMax),
    summary: cut(summary(view), bytesMax),
    text: cut(text(view), bytesMax),
    ...(conclusion ? { annotations: annotations(view), actions } : {}),
  };
}

/** Success only with green receipts; a question waits for a person. */
function concluded({ run, receipts }: RunView): Conclusion | undefined {
  if (run.failureCode === "asked_question") return "action_required";
  if (run.state === "succeeded" && (!run.changed || receipts.length === 0)) return "neutral";
  return conclusions[run.state];
}

const actions: Action[] = [
  { label: "Run again", description: "The last prompt once more", identifier: "again" },
  { label: "Fix it", description: "With reviews, checks and receipts", identifier: "fix" },
  { label: "Continue", description: "The next run, from where this ended", identifier: "continue" },
];

/** GitHub takes 50 in one request, and ours are sent with the one that completes. */
const annotationsMax = 50;
const messageMax = 1_000;

/** Lines such as `src/a.ts:12:3: message` or `src/a.ts(12,3): message` in what a red verify printed. */
function annotations({ receipts }: RunView): Annotation[] {
  const found = new Map<string, Annotation>();
  for (const receipt of receipts.filter((one) => one.exitCode !== 0))
    for (const line of receipt.tail.split("\n")) {
      const [, path = "", colon, bracket, message = ""] = pointed.exec(line.trim()) ?? [];
      const at = Number(colon ?? bracket ?? 0);
      if (!at || at > 1_000_000 || path.split("/").some((part) => part === "..")) continue;
      const annotation = { path, line: at, message: message.slice(0, messageMax) };
      found.set(`${path}:${at}:${message}`, annotation);
    }
  return [...found.values()].slice(0, annotationsMax);
}

const pointed =
  /^(?:\/workspace\/|\.\/)?([\w@+][\w@+.-]*(?:\/[\w@+.-]+)*\.\w{1,12})(?::(\d+)(?::\d+)?|\((\d+),\d+\)):\s+(\S.*)$/;

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

/** Whether trimo.yml at a commit can be read; each mistake with its line. */
export function configCheckBody(missing: boolean, mistakes: Mistake[], now: number): CheckBody {
  const right = mistakes.length === 0;
  const removed = missing
    ? "The file is removed: Trimo's own settings hold."
    : "Every key is known.";
  return {
    status: "completed",
    conclusion: right ? "success" : "failure",
    completedAt: new Date(now).toISOString(),
    title: right ? "trimo.yml is right" : `trimo.yml has ${count(mistakes.length, "mistake")}`,
    summary: right
      ? removed
      : cut(
          `While this is on the default branch, no new run is started here.\n\n${mistakeList(mistakes)}`,
          bytesMax,
        ),
    annotations: mistakes.slice(0, annotationsMax).map(({ line, text: message }) => ({
      path: trimoYmlPath,
      line: line ?? 1,
      message: message.slice(0, messageMax),
    })),
  };
}

function title(view: RunView, now: number): string {
  const { run, receipts, commits } = view;
  const words = run.failureCode ? failureWords[run.failureCode].title : null;
  switch (run.state) {
    case "queued":
      return view.place ? `Queued: ${placeWords(view.place).where}` : "Queued";
    case "claimed":
      return run.cancelledBy ? "Being stopped" : `Claimed by ${run.daemon}`;
    case "running": {
      const time = run.startedAt ? ` · ${duration(now - run.startedAt)}` : "";
      const made = commits.length > 0 ? ` · ${count(commits.length, "commit")}` : "";
      return `Run ${run.number}: ${run.cancelledBy ? "being stopped" : (run.stage ?? "preparing")}${time}${made}`;
    }
    case "succeeded":
      if (!run.changed) return "Nothing to change";
      return receipts.length > 0
        ? `Verified: ${receipts.map((r) => short(r.command)).join(", ")} ✅`.slice(0, 200)
        : `Done, ${count(commits.length, "commit")}, not verified`;
    case "failed": {
      if (run.failureCode === "asked_question") return "The agent asks a question";
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
    "| agent | machine | image | asked by | time | tokens, cost |",
    "| --- | --- | --- | --- | --- | --- |",
    `| ${run.agent ? code(run.agent) : "–"} | ${run.daemon ? code(run.daemon) : "–"} | ${run.image ? code(run.image) : "–"} | ${plain(run.requestedBy, 60)} | ${time} | ${usageWords(view.usage).join(", ") || "–"} |`,
    "",
    ...(view.place ? [placeWords(view.place).why, ""] : []),
    view.stages.length > 0 ? stageLine(view) : "",
    "",
    ...(words ? [`**${words.title}** (${code(run.failureCode ?? "")}). ${words.mend}`, ""] : []),
    ...(run.failureDetail ? [fenced(endOf(run.failureDetail, 4_000)), ""] : []),
    ...(view.plan ? [...planLines(view).slice(1), ""] : []),
    ...receiptTable(view),
    ...(run.state === "succeeded" && run.changed && receipts.length === 0 ? [unverified, ""] : []),
    ...noteLines(view),
    ...red.flatMap((receipt) => [
      `${code(receipt.command.slice(0, 200))} ended with:`,
      "",
      fenced(lastLines(receipt.tail)),
      "",
    ]),
    ...(run.state === "succeeded" ? [] : serviceLines(view)),
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

function noteLines(view: RunView): string[] {
  const all = noteSentences(view);
  return all.length > 0 ? [...all.map((line) => `- ${line}`), ""] : [];
}

const linesShown = 40;
/** The last lines of a red verify. */
function lastLines(tail: string): string {
  return endOf(tail.trimEnd().split("\n").slice(-linesShown).join("\n"), 6_000);
}
