// What Trimo reads of a Dockerfile before the engine does: pure. Only what both understand the same
// way; the rest is the engine's to say.

export type Instruction = { line: number; text: string };

/** Each instruction with the line it begins on, as the engine counts its steps. */
export function instructionsOf(dockerfile: string): Instruction[] {
  const found: Instruction[] = [];
  let open = false;
  dockerfile.split("\n").forEach((raw, index) => {
    const text = raw.replace(/\r$/, "");
    // Comments and empty lines may stand also in the middle of an instruction.
    if (/^\s*(#|$)/.test(text)) return;
    const last = found.at(-1);
    if (open && last) last.text += ` ${text.replace(/\\\s*$/, "").trim()}`;
    else found.push({ line: index + 1, text: text.replace(/\\\s*$/, "").trim() });
    open = /\\\s*$/.test(text);
  });
  return found;
}

/** The images of others that it takes from: FROM and COPY --from, but for its own stages. */
export function imagesOf(dockerfile: string): { images: string[]; unclear: Instruction[] } {
  const stages = new Set<string>(["scratch"]);
  const images = new Set<string>();
  const unclear: Instruction[] = [];
  let count = 0;
  const take = (name: string, instruction: Instruction) => {
    if (name.includes("$")) unclear.push(instruction);
    else if (!stages.has(name.toLowerCase()) && !/^\d+$/.test(name)) images.add(name);
  };
  for (const instruction of instructionsOf(dockerfile)) {
    const words = instruction.text.split(/\s+/);
    const [verb = ""] = words;
    if (/^from$/i.test(verb)) {
      const [name = "", as = "", stage = ""] = words
        .slice(1)
        .filter((word) => !word.startsWith("--"));
      take(name, instruction);
      if (/^as$/i.test(as)) stages.add(stage.toLowerCase());
      stages.add(String(count++));
    }
    const from = /^(copy|add|run)$/i.test(verb)
      ? words.find((word) => /^--from=/.test(word))?.slice("--from=".length)
      : undefined;
    if (from) take(from, instruction);
    const mounted = /^run$/i.test(verb)
      ? /--mount=\S*\bfrom=([^,\s]+)/.exec(instruction.text)?.[1]
      : undefined;
    if (mounted) take(mounted, instruction);
  }
  return { images: [...images], unclear };
}
