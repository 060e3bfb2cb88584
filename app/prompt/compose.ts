import type { Spot } from "../github/objects.ts";
import { promptMax } from "../protocol/job.ts";
import { fenced } from "../text/markdown.ts";
import { didNotFit } from "../view/prompt-note.ts";

/** The most characters an agent is told: they leave room for what the daemon adds. */
const composedMax = promptMax - 5_000;
const checkOutputMax = 4_000;
const receiptOutputMax = 6_000;
const hunkLinesMax = 20;

/** What a person said; `spot`: the lines it is about. */
export type Review = { by: string; body: string; spot: Spot | null };

/** All that may go into a prompt. Lists are oldest first. */
export type Material = {
  /** What was asked, word for word. */
  request: string;
  branch: string;
  base: string;
  earlier: {
    number: number;
    agent: string | null;
    prompt: string;
    result: string;
    words: string | null;
    commits: { sha: string; subject: string }[];
    receipts: { command: string; exitCode: number }[];
  }[];
  /** What people did to the branch since the last run, in sentences. */
  moved: string[];
  reviews: Review[];
  checks: { name: string; result: string; output: string }[];
  receipts: { command: string; exitCode: number; tail: string }[];
  thread: { by: string; body: string }[];
  /** What was not taken up, in sentences. */
  leftOut: string[];
};

type Section = "branch" | "reviews" | "receipts" | "checks" | "thread" | "earlier";
type Piece = { section: Section; text: string };

const headings: Record<Section, string> = {
  branch: "The branch",
  reviews: "Review comments since the last run",
  receipts: "What Trimo verified after the last run",
  checks: "Failing checks on the branch",
  thread: "The thread, by people with write permission",
  earlier: "Earlier runs of this pipeline, the oldest first",
};
const shownInTurn: Section[] = ["branch", "reviews", "receipts", "checks", "thread", "earlier"];

/** What is dropped from a prompt that is too long, in this order. */
export const droppedInTurn: Section[] = ["earlier", "thread", "checks", "receipts", "reviews"];

/**
 * Composes one prompt, and beside it the handoff: what only an agent has to be told that was not there in
 * the runs before. Of a prompt that is too long parts are dropped, the oldest first: earlier runs, the
 * thread, checks, receipts, review comments; the request and the branch never. What was dropped is named
 * at the end.
 */
export function composePrompt(material: Material): {
  text: string;
  handoff: string;
  dropped: string[];
} {
  const pieces = piecesOf(material);
  const asked = material.request.trim();
  if (pieces.length === 0 && material.leftOut.length === 0)
    return { text: asked.slice(0, composedMax), handoff: "", dropped: [] };
  const dropped = new Map<Section, number>();
  let kept = pieces;
  const told = () => kept.filter((piece) => piece.section === "earlier");
  const render = () => {
    const now = kept.filter((piece) => piece.section !== "earlier");
    return assemble(asked, now, [...material.leftOut, ...droppedWords(dropped)]);
  };
  let text = render();
  for (const section of droppedInTurn)
    while (text.length + handoffOf(told()).length > composedMax) {
      const oldest = kept.findIndex((piece) => piece.section === section);
      if (oldest < 0) break;
      kept = kept.filter((_, index) => index !== oldest);
      dropped.set(section, (dropped.get(section) ?? 0) + 1);
      text = render();
    }
  return {
    text: text.slice(0, composedMax),
    handoff: handoffOf(told()),
    dropped: droppedWords(dropped),
  };
}

function handoffOf(pieces: Piece[]): string {
  if (pieces.length === 0) return "";
  return [`## ${headings.earlier}`, ...pieces.map((piece) => piece.text)].join("\n\n");
}

function assemble(asked: string, pieces: Piece[], notes: string[]): string {
  const parts = [asked];
  for (const section of shownInTurn) {
    const own = pieces.filter((piece) => piece.section === section);
    if (own.length > 0)
      parts.push(`## ${headings[section]}`, own.map((piece) => piece.text).join("\n\n"));
  }
  if (notes.length > 0) parts.push("## Left out", notes.map((note) => `- ${note}`).join("\n"));
  return parts.join("\n\n");
}

function droppedWords(dropped: Map<Section, number>): string[] {
  return [...dropped].map(([section, number]) => didNotFit(number, headings[section]));
}

function piecesOf(material: Material): Piece[] {
  const { earlier, moved, reviews, checks, receipts, thread, branch, base } = material;
  const known = moved.length > 0 || earlier.length > 0;
  const lines = known
    ? [
        `You are on \`${branch}\`, which started from \`${base}\` and will be merged there.`,
        ...moved,
      ]
    : [];
  return [
    ...lines.map((text) => ({ section: "branch" as const, text })),
    ...reviews.map((review) => ({ section: "reviews" as const, text: reviewText(review) })),
    ...receipts.map((receipt) => ({
      section: "receipts" as const,
      text:
        receipt.exitCode === 0
          ? `\`${receipt.command}\` passed.`
          : `\`${receipt.command}\` failed with exit code ${receipt.exitCode}:\n\n${fenced(end(receipt.tail, receiptOutputMax))}`,
    })),
    ...checks.map(({ name, result, output }) => ({
      section: "checks" as const,
      text: `**${name}**: ${result}${output.trim() ? `\n\n${fenced(end(output, checkOutputMax))}` : ""}`,
    })),
    ...thread.map(({ by, body }) => ({ section: "thread" as const, text: quoted(by, body) })),
    ...earlier.map((run) => ({ section: "earlier" as const, text: earlierText(run) })),
  ];
}

const commitsShown = 20;

function earlierText(run: Material["earlier"][number]): string {
  const { number, agent, prompt, result, words, commits, receipts } = run;
  const by = agent ? `, by ${agent}` : "";
  const made = commits.slice(-commitsShown).map((one) => `- ${one.sha.slice(0, 7)} ${one.subject}`);
  const proofs = receipts.map(
    ({ command, exitCode }) =>
      `- \`${command}\` ${exitCode === 0 ? "passed" : `failed with exit code ${exitCode}`}`,
  );
  return [
    `Run ${number} (${result}${by}) was asked to do this:`,
    quote(prompt.slice(0, 2_000)),
    ...(words ? ["Its last words were:", quote(words)] : []),
    ...(made.length > 0 ? ["Its commits:", made.join("\n")] : []),
    ...(proofs.length > 0 ? ["Trimo verified afterwards:", proofs.join("\n")] : []),
  ].join("\n\n");
}

/** A review comment with its place: file, lines and the end of the hunk. */
function reviewText({ by, body, spot }: Review): string {
  if (!spot) return quoted(by, body);
  return `${quoted(by, body)}\n\n${spotText(spot)}`;
}

/** Where a review comment stands, as text for a prompt. */
export function spotText(spot: Spot): string {
  const lines =
    spot.to === null
      ? ""
      : spot.from !== null && spot.from !== spot.to
        ? `, lines ${spot.from}–${spot.to}`
        : `, line ${spot.to}`;
  const hunk = spot.hunk.trimEnd().split("\n").slice(-hunkLinesMax).join("\n");
  return `At \`${spot.path}\`${lines}:${hunk ? `\n\n${fenced(hunk)}` : ""}`;
}

const quoted = (by: string, body: string): string => `@${by}:\n\n${quote(body)}`;
const quote = (text: string): string =>
  text
    .trim()
    .split("\n")
    .map((line) => `> ${line}`)
    .join("\n");
const end = (text: string, max: number): string =>
  text.length <= max ? text : `…${text.slice(-max)}`;

/** What a corrective run is asked to do where nobody wrote a prompt. */
export const fixRequest =
  "Fix what the review comments, failing checks and receipts below point out. Change nothing else.";
/** What the next run is asked to do where nobody wrote a prompt. */
export const continueRequest = "Continue the work on this branch where the last run left it.";

/** What a command without words in a diff asks for. */
export const spotPrompt = "Do what these lines of the diff need.";
