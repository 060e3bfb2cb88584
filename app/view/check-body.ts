import type { Action, Annotation, CheckBody, Conclusion } from "../github/objects.ts";
import { type Mistake, trimoYmlPath } from "../protocol/trimo-yml.ts";
import type { RunState } from "../state/schema.ts";
import { code, cut, endOf, fenced, oneLine, plain } from "../text/markdown.ts";
import { causeWords } from "./cause.ts";
import { failureDetail, failureWords } from "./failure.ts";
import { mistakeList } from "./mistakes.ts";
import { buttonLabels } from "./origin.ts";
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
import { count, duration, usageWords } from "./units.ts";

const titleMax = 200;
/** GitHub takes 65,535 bytes each in summary and text; Trimo stays below. */
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
  { label: buttonLabels.again, description: "Runs the last prompt once more", identifier: "again" },
  { label: buttonLabels.fix, description: "With reviews, checks and receipts", identifier: "fix" },
  {
    label: buttonLabels.continue,
    description: "The next run, from where this ended",
    identifier: "continue",
  },
];

/** GitHub takes 50 in one request, and Trimo sends them with the one that completes. */
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
    summary: `The branch has moved on; this run's check is on ${sha} now.`,
  };
}

/** Whether trimo.yml at a commit can be read; each mistake with its line. */
export function configCheckBody(missing: boolean, mistakes: Mistake[], now: number): CheckBody {
  const right = mistakes.length === 0;
  const removed = missing ? "The file is removed; Trimo uses its defaults." : "Every key is known.";
  return {
    status: "completed",
    conclusion: right ? "success" : "failure",
    completedAt: new Date(now).toISOString(),
    title: right ? "trimo.yml is valid" : `trimo.yml has ${count(mistakes.length, "mistake")}`,
    summary: right
      ? removed
      : cut(
          `While this is on the default branch, no new run starts here.\n\n${mistakeList(mistakes)}`,
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
  const { run, position, commits } = view;
  switch (run.state) {
    case "queued":
      return position ? `Queued: ${positionWords(position).where}` : "Queued";
    case "claimed":
      return run.cancelledBy ? "Being stopped" : `Claimed by ${run.daemon}`;
    case "running": {
      const time = run.startedAt ? ` · ${duration(now - run.startedAt)}` : "";
      const made = commits.length > 0 ? ` · ${count(commits.length, "commit")}` : "";
      return `Run ${run.number}: ${run.cancelledBy ? "being stopped" : (run.stage ?? "preparing")}${time}${made}`;
    }
    case "succeeded":
      return successTitle(view);
    case "failed":
      return failureTitle(view);
    case "cancelled":
      return `Cancelled by ${run.cancelledBy ? causeWords(run.cancelledBy) : "somebody"}`;
    case "timed_out":
      return "Timed out";
    case "lost":
      return "Lost: the machine went away";
  }
}

function successTitle({ run, receipts, commits }: RunView): string {
  if (!run.changed) return "Nothing to change";
  return receipts.length > 0
    ? `Verified: ${receipts.map((receipt) => short(receipt.command)).join(", ")} ✅`
    : `Done, ${count(commits.length, "commit")}, not verified`;
}

function failureTitle({ run, receipts }: RunView): string {
  if (run.failureCode === "asked_question") return "The agent asks a question";
  const red = receipts.find((receipt) => receipt.exitCode !== 0);
  if (red) return `Verify failed: ${short(red.command)} ❌ exit ${red.exitCode}`;
  const words = run.failureCode ? failureWords[run.failureCode].title : "see below";
  return `Failed: ${words.replaceAll("`", "")}`;
}

const short = (command: string): string => command.replace(/\s+/g, " ").slice(0, 60);

function summary(view: RunView): string {
  const { run, receipts, commits } = view;
  const words = run.failureCode ? failureWords[run.failureCode] : null;
  const detail = failureDetail(run);
  const red = receipts.filter((receipt) => receipt.exitCode !== 0 && receipt.tail);
  const unproved = run.state === "succeeded" && run.changed && receipts.length === 0;
  return [
    ...factTable(view),
    ...(view.position ? [positionWords(view.position).why, ""] : []),
    view.stages.length > 0 ? stageLine(view) : "",
    "",
    ...(words ? [`**${words.title}** (${code(run.failureCode ?? "")}). ${words.fix}`, ""] : []),
    ...(detail ? [fenced(endOf(detail, 4_000)), ""] : []),
    ...(view.plan ? [...planLines(view).slice(1), ""] : []),
    ...receiptTable(view),
    ...(unproved ? [unverified, ""] : []),
    ...noteLines(view),
    ...red.flatMap((receipt) => [
      `The end of what ${code(receipt.command.slice(0, 200))} printed:`,
      "",
      fenced(lastLines(receipt.tail)),
      "",
    ]),
    ...(run.state === "succeeded" ? [] : serviceLines(view)),
    ...(commits.length > 0 ? [`${count(commits.length, "commit")}:`, ""] : []),
    ...commits.slice(-50).map((c) => `- ${c.sha} ${plain(c.subject, 150)}`),
  ].join("\n");
}

/** Who did it, where, for whom, in what time and at what cost. */
function factTable({ run, usage }: RunView): string[] {
  const named = (name: string | null) => (name ? code(name) : "–");
  const time = run.endedAt ? duration(run.endedAt - (run.startedAt ?? run.createdAt)) : "–";
  const cells = [
    named(run.agent),
    named(run.daemon),
    named(run.image),
    plain(run.requestedBy, 60),
    time,
    usageWords(usage).join(", ") || "–",
  ];
  return [
    "| agent | machine | image | requested by | time | tokens, cost |",
    "| --- | --- | --- | --- | --- | --- |",
    `| ${cells.join(" | ")} |`,
    "",
  ];
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
