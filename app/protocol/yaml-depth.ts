/** How deep a file of settings may be nested; real ones have five levels. */
const flowMax = 32;
const indentMax = 64;
const markersMax = 16;

/**
 * The first line of a YAML text that is nested too deep for a recursive parser, whose process would end at it;
 * null: none is. Reads each character once, and takes quoted ones for what they look like.
 */
export function tooDeepLine(text: string): number | null {
  let open = 0;
  for (const [i, line] of text.split(/\r\n?|\n/).entries()) {
    let most = 0;
    for (const letter of line) {
      if (letter === "[" || letter === "{") open += 1;
      else if ((letter === "]" || letter === "}") && open > 0) open -= 1;
      most = Math.max(most, open);
    }
    const indent = line.length - line.trimStart().length;
    if (most > flowMax || indent > indentMax || markersOf(line) > markersMax) return i + 1;
  }
  return null;
}

/** The most collections that a line begins within one another, as `- - ? x` does. */
function markersOf(line: string): number {
  if (line.trimStart().startsWith("#")) return 0;
  let [most, now] = [0, 0];
  for (const word of line.split(/[ \t]+/)) {
    now = /^(-+|[?:]|[&!].*|)$/.test(word) ? now + 1 : 0;
    most = Math.max(most, now);
  }
  return most;
}
