import MarkdownIt from "markdown-it";

/** GitHub's limit of a comment and of an issue's body; what is longer is not GitHub's. */
const charactersMax = 65_536;
/** Stands for a candidate while the parser looks at it: a private character, its number, another. */
const [before, after] = ["\ue000", "\ue001"];
/** Reorders what a reader sees, so that a line can read as another. */
const reordering = /[\u202a-\u202e\u2066-\u2069]/;
const candidate = /^( {0,3})\/trimo(?=\s|$)/i;

const parser = new MarkdownIt("commonmark");
type Token = ReturnType<typeof parser.parse>[number];

/** The line after `/trimo`, and what follows it to the end. */
export type Spoken = { line: string; below: string };

/**
 * The first `/trimo` at the start of a line that a reader of the page sees as words: a Markdown parser
 * decides what is code, a quote, a link or a comment. Null when the text does not speak to Trimo.
 */
export function findSpoken(text: string): Spoken | null {
  const lines = clean(text.slice(0, charactersMax)).split("\n");
  const wanted = lines.flatMap((line, index) =>
    candidate.test(line) && !reordering.test(line) ? [index] : [],
  );
  if (wanted.length === 0) return null;
  const marked = [...lines];
  for (const index of wanted)
    marked[index] = (lines[index] ?? "").replace(candidate, `$1${before}${index}${after}`);
  const first = spokenLines(parser.parse(marked.join("\n"), {}))[0];
  if (first === undefined) return null;
  const line = (lines[first] ?? "").replace(candidate, "").trim();
  return { line: shown(line), below: shown(lines.slice(first + 1).join("\n")) };
}

/** Text as a reader of the page sees it: no HTML comments, no invisible or reordering characters. */
export function visible(text: string): string {
  return shown(clean(text));
}

/** The numbers of the candidates that stand as text, outside quotes and links. */
function spokenLines(tokens: Token[]): number[] {
  let quotes = 0;
  const found: number[] = [];
  for (const token of tokens) {
    if (token.type === "blockquote_open") quotes += 1;
    if (token.type === "blockquote_close") quotes -= 1;
    if (token.type !== "inline" || quotes > 0) continue;
    let links = 0;
    for (const child of token.children ?? []) {
      if (child.type === "link_open") links += 1;
      if (child.type === "link_close") links -= 1;
      if (child.type !== "text" || links > 0) continue;
      const mark = new RegExp(`^${before}(\\d+)${after}`).exec(child.content);
      if (mark) found.push(Number(mark[1]));
    }
  }
  return found;
}

/** Line ends made equal; no invisible, control or private characters. */
function clean(text: string): string {
  return (
    text
      .replace(/\r\n?/g, "\n")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, "")
      .replace(/[\u00ad\u200b-\u200f\u2060-\u2064\ufeff\ue000\ue001]|[\u{e0000}-\u{e007f}]/gu, "")
  );
}

/** Without HTML comments, but in code, where a reader sees them. */
function shown(text: string): string {
  const lines = text.split("\n");
  const blocks = parser
    .parse(text, {})
    .filter((token) => (token.type === "fence" || token.type === "code_block") && token.map)
    .map((token) => token.map as [number, number]);
  let out = "";
  let at = 0;
  for (const [from, to] of blocks) {
    if (from < at) continue;
    out += withoutComments(lines.slice(at, from).map(ended).join(""));
    out += lines.slice(from, to).map(ended).join("");
    at = to;
  }
  out += withoutComments(lines.slice(at).map(ended).join(""));
  return out.slice(0, -1).replace(/[\u202a-\u202e\u2066-\u2069]/g, "");
}

const ended = (line: string): string => `${line}\n`;

/** A code span begins and ends in one paragraph; what begins first counts, as in CommonMark. */
function withoutComments(text: string): string {
  const spanOrComment =
    /(?<!`)(`+)(?!`)(?:(?!\n[ \t]*\n)[\s\S])*?(?<!`)\1(?!`)|<!--[\s\S]*?(?:-->|$)/g;
  return text.replace(spanOrComment, (found) => (found.startsWith("<!--") ? "" : found));
}
