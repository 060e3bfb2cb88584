import { failureDetailMax } from "../protocol/failure.ts";

/** Somebody's words on one line of ours: no markup, no mention, no command can come out of them. */
export function plain(text: string, lengthMax: number): string {
  const oneLine = text
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
    .replace(/[\u0000-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069]+/g, " ")
    .replace(/\s+/g, " ")
    .trim();
  const cut =
    oneLine.length > lengthMax ? `${oneLine.slice(0, lengthMax - 1).trimEnd()}…` : oneLine;
  return (
    cut
      .replace(/&/g, "&amp;")
      .replace(/[\\`*_[\]<>|~#]/g, (sign) => `\\${sign}`)
      // "fixes …" would close somebody's issue when ours is merged.
      .replace(/\b(close[sd]?|fix(?:e[sd])?|resolve[sd]?)\b/gi, "$1\u200b")
      .replace(/@(?=\w)/g, "@\u200b")
      .replace(/^\//, "\\/")
  );
}

/** Plain text on one line, where nothing is markup: a check run's title. */
export function oneLine(text: string, lengthMax: number): string {
  return text
    .replace(/[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]+/gu, " ")
    .replace(/\s+/g, " ")
    .trim()
    .slice(0, lengthMax);
}

/** Output in a fence that nothing inside can close. */
export function fenced(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map((match) => match[0].length));
  const fence = "`".repeat(longest + 1);
  return `${fence}\n${text.replace(/\r/g, "").trimEnd()}\n${fence}`;
}

/** The end of a text, cut at a line where one is near. */
export function endOf(text: string, charactersMax = failureDetailMax): string {
  if (text.length <= charactersMax) return text;
  const end = text.slice(-charactersMax + 2);
  const line = end.indexOf("\n");
  return `…\n${line >= 0 && line < 200 ? end.slice(line + 1) : end}`;
}

/** Inline code that nothing inside can close. */
export function code(text: string): string {
  const oneLine = text.replace(/\s+/g, " ").trim();
  const longest = Math.max(0, ...[...oneLine.matchAll(/`+/g)].map((match) => match[0].length));
  const fence = "`".repeat(longest + 1);
  return longest > 0 ? `${fence} ${oneLine} ${fence}` : `\`${oneLine}\``;
}

/**
 * Markdown of at most so many bytes, which is what GitHub counts: cut at a line, with an open fence
 * closed by one as long.
 */
export function cut(markdown: string, bytesMax: number): string {
  if (Buffer.byteLength(markdown) <= bytesMax) return markdown;
  const bytes = Buffer.from(markdown)
    .subarray(0, bytesMax - 200)
    .toString("utf8")
    .replace(/\ufffd+$/, "");
  const kept = bytes.slice(0, Math.max(0, bytes.lastIndexOf("\n")));
  let open: string | null = null;
  for (const line of kept.split("\n")) {
    // A line with more backticks behind them is inline code, not a fence.
    const fence = /^(`{3,})[^`]*$/.exec(line)?.[1];
    if (!fence) continue;
    if (open === null) open = fence;
    else if (line.trim() === open) open = null;
  }
  return `${kept}\n${open ? `${open}\n` : ""}…`;
}
