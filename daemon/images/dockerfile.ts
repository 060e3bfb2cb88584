// What Trimo reads of a Dockerfile before the engine does: pure. What the engine might read otherwise
// is unclear, and what is unclear is refused: by `FROM` a machine says which images it trusts.

export type Instruction = { line: number; text: string };

/** The engine goes on behind one backslash at the end of a line, not behind two. */
const continued = /(^|[^\\])\\[ \t]*$/;

/** A Dockerfile's instructions, each with the line that it begins on, as the engine counts its steps. */
export function instructionsOf(dockerfile: string): Instruction[] {
  const found: Instruction[] = [];
  let open = false;
  dockerfile.split("\n").forEach((raw, index) => {
    const text = raw.replace(/\r$/, "");
    // Comments and empty lines may stand also in the middle of an instruction.
    if (/^[ \t]*(#|$)/.test(text)) return;
    const bare = text.replace(continued, "$1");
    const last = found.at(-1);
    if (open && last) last.text += bare;
    else found.push({ line: index + 1, text: bare.trim() });
    open = continued.test(text);
  });
  return found.map(({ line, text }) => ({ line, text: text.replace(/[ \t]+/g, " ").trim() }));
}

const verbs =
  /^(from|run|cmd|label|maintainer|expose|env|add|copy|entrypoint|volume|user|workdir|arg|stopsignal|healthcheck|shell)$/i;
/** Plainly written, so that nobody can read another image in it. */
const plainFrom = /^from (--platform=[\w/.-]+ )?([\w./:@-]+)( as [\w.-]+)?$/i;
/** Of COPY, ADD and RUN: options without quotes, escapes and variables. */
const plainFlag = /^--[a-z-]+(=[^"'\\$]*)?$/;
/** A character that only one of two readers takes for a space or a line's end. */
const odd = /[^\P{C}\n\t\r]|[^\P{Z} ]|\r(?!\n)/u;
const directive = /^[ \t]*#[ \t]*(escape|syntax|check)[ \t]*=/im;

type Images = {
  /** By name, but for its own stages. */
  images: string[];
  /** What might be read in two ways. */
  unclear: Instruction[];
};

/** The images of others that a Dockerfile takes from: by FROM, COPY --from and mounts. */
export function imagesOf(dockerfile: string): Images {
  const all = instructionsOf(dockerfile);
  const unclear: Instruction[] = [];
  const lineAt = (found: RegExpExecArray) => dockerfile.slice(0, found.index).split("\n").length;
  const strange = odd.exec(dockerfile);
  if (strange)
    unclear.push({ line: lineAt(strange), text: "an unusual space or control character" });
  const told = directive.exec(dockerfile);
  if (told) unclear.push({ line: lineAt(told), text: told[0].trim() });
  if (!all.some(({ text }) => /^from /i.test(text)))
    unclear.push({ line: 1, text: "there is no FROM" });
  const stages = new Set<string>();
  const images = new Set<string>();
  let count = 0;
  for (const instruction of all) {
    const [verb = "", ...words] = instruction.text.split(" ");
    const from = plainFrom.exec(instruction.text);
    if (/^from$/i.test(verb) && from) {
      const [, , name = "", as = ""] = from;
      if (name.toLowerCase() !== "scratch" && !stages.has(name.toLowerCase())) images.add(name);
      stages.add(String(count++));
      if (as) stages.add(as.slice(" as ".length).toLowerCase());
      continue;
    }
    const flags = /^(copy|add|run|healthcheck)$/i.test(verb) ? leading(words) : [];
    const clear =
      verbs.test(verb) && !/^from$/i.test(verb) && flags.every((flag) => plainFlag.test(flag));
    if (!clear) unclear.push(instruction);
    for (const flag of flags) {
      const name =
        /^--from=(.*)$/.exec(flag)?.[1] ?? /^--mount=(?:.*,)?from=([^,]*)/.exec(flag)?.[1];
      if (name && !stages.has(name.toLowerCase())) images.add(name);
    }
  }
  return { images: [...images], unclear };
}

function leading(words: string[]): string[] {
  const end = words.findIndex((word) => !word.startsWith("--"));
  return end < 0 ? words : words.slice(0, end);
}
