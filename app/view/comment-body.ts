import type { Run } from "../state/run.ts";
import { driftWords, type RunView, sessionWords } from "./run-view.ts";
import {
  code,
  count,
  cut,
  duration,
  endOf,
  failureWords,
  fenced,
  placeWords,
  plain,
  stateSigns,
  usageWords,
} from "./wording.ts";

/** GitHub takes 65,536 characters in a comment; ours stay well below, also in bytes. */
const bytesMax = 60_000;

export type Links = {
  run(runId: string): string;
  pull(repository: string, number: number): string;
};

/** By this a comment is found again when the answer to its creation was lost. */
export const commentMarker = (runId: string): string => `<!-- trimo:run=${runId} -->`;

/** A run's one comment: pure, from what is stored to what is shown. */
export function commentBody(view: RunView, links: Links, now: number): string {
  return cut([commentMarker(view.run.id), ...lines(view, links, now)].join("\n"), bytesMax);
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
        `${stateSigns.cancelled} **Run ${run.number}** was cancelled by ${plain(run.cancelledBy ?? "somebody", 120)}${after(view)}.`,
        "",
        kept(view),
        ...noteLines(view),
        footer(
          view,
          links,
          view.pipeline.state === "open" ? "`/trimo continue …` goes on from there" : null,
        ),
      ];
    default:
      return failed(view, links);
  }
}

function queued({ run, place }: RunView, links: Links): string[] {
  const words = place ? placeWords(place) : { where: "queued", why: "" };
  return [
    `${stateSigns.queued} **Run ${run.number}** is queued for ${plain(run.requestedBy, 60)} · ${words.where} · [watch it](${links.run(run.id)})`,
    "",
    words.why,
    "",
    "<sub>`/trimo cancel` takes it out of the line · the label `trimo:hold` holds it, `trimo:now` puts it first</sub>",
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
    ...planLines(view),
    ...noteLines(view),
    "",
    run.cancelledBy
      ? `<sub>Being stopped for ${plain(run.cancelledBy, 80)}; its work is kept${run.state === "running" ? "" : " where there is any"}. A machine that is away hears of it when it is back.</sub>`
      : run.steers
        ? "<sub>`/trimo tell …` reaches the agent now · `/trimo cancel` stops it and keeps the work</sub>"
        : "<sub>`/trimo cancel` stops it and keeps the work</sub>",
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
      ...noteLines(view),
      footer(view, links, "`/trimo run …` with other words tries again"),
    ];
  const ready = pipeline.pullState === "open" && !pipeline.adopted ? " is ready" : "";
  const pull = pipeline.pullNumber
    ? ` · [pull request #${pipeline.pullNumber}](${links.pull(pipeline.repository, pipeline.pullNumber)})${ready}`
    : "";
  return [
    `${stateSigns.succeeded} **Run ${run.number}** finished ${who}'s request${after(view)} · ${count(view.commits.length, "commit")}${pull}`,
    "",
    ...saidBy(view),
    ...(view.receipts.length > 0 ? receiptTable(view) : [unverified, ""]),
    ...noteLines(view),
    footer(view, links, "next: `/trimo fix …`, `/trimo continue …`, `/trimo done`"),
  ];
}

function failed(view: RunView, links: Links): string[] {
  const { run } = view;
  if (run.failureCode === "asked_question") return asked(view, links);
  const words = run.failureCode ? failureWords[run.failureCode] : null;
  const what = words ? `: **${words.title}** (${code(run.failureCode ?? "")})` : "";
  return [
    `${stateSigns[run.state]} **Run ${run.number}** stopped${after(view)}${what}`,
    "",
    ...(run.failureDetail ? [fenced(endOf(run.failureDetail, 3_000)), ""] : []),
    ...receiptTable(view),
    ...serviceLines(view),
    `${kept(view)} ${words?.mend ?? ""}`.trim(),
    ...noteLines(view),
    footer(view, links, null),
  ];
}

function asked(view: RunView, links: Links): string[] {
  const { run } = view;
  return [
    `❓ **Run ${run.number}** stopped${after(view)} with a question of ${code(run.agent ?? "agent")}:`,
    "",
    `> ${plain(run.failureDetail ?? "", 2_000)}`,
    "",
    kept(view),
    footer(view, links, "`/trimo continue …` with the answer goes on from there"),
  ];
}

/** A question needs a person, so it is a comment of its own, which notifies. */
export function questionBody(run: Run): string {
  // A schedule or a check asked: their names are those of people who have nothing to do with it.
  const person = !run.trigger.startsWith("schedule") && !run.trigger.startsWith("CI failed");
  const login = person && /^[A-Za-z0-9-]+$/.test(run.requestedBy) ? `@${run.requestedBy}` : "";
  const who = login
    ? `${login}, ${code(run.agent ?? "the agent")}`
    : code(run.agent ?? "the agent");
  return `❓ ${who} asks:\n\n> ${plain(run.failureDetail ?? "", 2_000)}\n\nAnswer with \`/trimo continue …\`, your words behind it.`;
}

/**
 * What an agent asked to have said under its pull request. Its Markdown stays, as a quotation: no line
 * of it is a command or looks like Trimo's own, it calls nobody and closes nothing, and it shows no
 * image, whose address could carry something out.
 */
export function agentCommentBody(run: Run, text: string): string {
  const safe = text
    .replace(/[^\P{C}\n\t]/gu, "")
    // Entities would become what is taken out below.
    .replace(/&(?=#|\w+;)/g, "&amp;")
    .replace(/\/(?=trimo)/gi, "/ ")
    .replace(/<(?=[A-Za-z!/?])/g, "&lt;")
    .replace(/!(?=\[)/g, "!\u200b")
    .replace(/@(?=\w)/g, "@\u200b")
    .replace(/\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b/gi, "$1\u200b");
  const by = `<sub>${code(run.agent ?? "the agent")} says in run ${run.number}:</sub>`;
  const quoted = cut(safe, bytesMax / 2).replace(/^/gm, "> ");
  return `${by}\n\n${quoted}`;
}

/** What the services had to say when something failed: the end of each log, the dead first. */
export function serviceLines({ services }: RunView): string[] {
  const told = services.filter(({ state, tail }) => state === "died" || tail);
  const order = told.toSorted((a, b) => Number(b.state === "died") - Number(a.state === "died"));
  return order.flatMap(({ name, state, tail }) => [
    state === "died"
      ? `The service ${code(name)} ended while the run was working:`
      : `The end of ${code(name)}'s log:`,
    "",
    ...(tail ? [fenced(endOf(tail, 2_000)), ""] : []),
  ]);
}

function noteLines(view: RunView): string[] {
  const all = noteSentences(view);
  return all.length > 0 ? ["", `<sub>${all.join(" ")}</sub>`] : [];
}

/** What went along with the prompt, and how the base has moved on. */
export function noteSentences({ notes, drift, pipeline, session }: RunView): string[] {
  const all = notes.map((note) => plain(note, 300));
  if (session) all.push(plain(sessionWords(session), 400));
  if (!drift || drift.behind === 0) return all;
  const more = `${code(pipeline.baseBranch)} has ${count(drift.behind, "commit")} more`;
  return [...all, `${more}${plain(driftWords(drift.conflicts), 400)}; nothing was merged.`];
}

/** The agent's own list, as it is now. */
export function planLines({ plan }: RunView): string[] {
  if (!plan || plan.length === 0) return [];
  return ["", ...plan.map(({ text, done }) => `- [${done ? "x" : " "}] ${plain(text, 200)}`)];
}

/** Success is what a verify command has seen; without one nothing is claimed. */
export const unverified =
  "Not verified: `.github/trimo.yml` names no `verify` command, so nothing proves it.";

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
  const used = usageWords(view.usage);
  const shown = [
    ...parts.map((part) => plain(part, 100)),
    ...used,
    `[run](${links.run(run.id)})`,
    next,
  ];
  return `\n<sub>${shown.filter(Boolean).join(" · ")}</sub>`;
}
