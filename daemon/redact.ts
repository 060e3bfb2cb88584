/** What stands where a secret was. */
const mask = "***";
/** Shorter ones would mask ordinary words. */
const secretMin = 6;
/** A line without an end is handed on in pieces of this many characters. */
const pieceMax = 64 * 1024;

/** What looks like a credential, whoever's it is: GitHub's, AWS's, OpenAI's and Anthropic's, Slack's. */
const shapes =
  /\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,})/g;

/** Replaces every secret in a whole text. */
export function redact(text: string, secrets: Iterable<string>): string {
  let clean = text;
  for (const secret of ordered(secrets)) clean = clean.replaceAll(secret, mask);
  return clean.replace(shapes, mask);
}

/** Longest first, so that a secret inside another leaves nothing of the longer one; a line each. */
function ordered(secrets: Iterable<string>): string[] {
  const lines = [...secrets].flatMap((secret) => [secret, ...secret.split("\n")]);
  return [...new Set(lines.map((line) => line.trim()))]
    .filter((line) => line.length >= secretMin)
    .sort((a, b) => b.length - a.length);
}

type Line = {
  text: string;
  /** Where in the raw bytes the line ends: what a restart resumes from. */
  end: number;
  /** False for a piece of a line that is too long; more of it follows. */
  whole: boolean;
};

/**
 * Bytes in, clean lines out. A secret that is cut by a chunk's edge is whole again before it is
 * looked for; in a line too long to keep, what may be a secret's beginning is held back.
 */
export class LineReader {
  #secrets: () => Iterable<string>;
  #decoder = new TextDecoder("utf-8");
  #pending = "";
  #offset: number;

  constructor(secrets: () => Iterable<string>, offset: number) {
    this.#secrets = secrets;
    this.#offset = offset;
  }

  push(chunk: Buffer): Line[] {
    const last = chunk.lastIndexOf(10);
    const lines = last < 0 ? [] : this.#whole(chunk.subarray(0, last));
    this.#pending += this.#decoder.decode(chunk.subarray(last + 1), { stream: true });
    this.#offset += chunk.length;
    if (this.#pending.length > pieceMax) lines.push(this.#piece());
    return lines;
  }

  /** All complete lines of a chunk at once: an agent may print millions of short ones. */
  #whole(block: Buffer): Line[] {
    const text = this.#pending + this.#decoder.decode(block, { stream: false });
    this.#pending = "";
    const texts = redact(text, this.#secrets()).split("\n");
    let at = -1;
    // No secret holds a newline, so the clean lines are as many as the raw ones.
    return texts.map((clean) => {
      const newline = block.indexOf(10, at + 1);
      at = newline < 0 ? block.length : newline;
      return { text: clean, end: this.#offset + at + 1, whole: true };
    });
  }

  /** What is left when the output has ended without a newline. */
  flush(): Line[] {
    const rest = this.#pending + this.#decoder.decode();
    this.#pending = "";
    if (!rest) return [];
    return [{ text: redact(rest, this.#secrets()), end: this.#offset, whole: true }];
  }

  #piece(): Line {
    const longest = Math.max(0, ...[...this.#secrets()].map((secret) => secret.length));
    const clean = redact(this.#pending, this.#secrets());
    const cut = Math.max(0, clean.length - longest);
    this.#pending = clean.slice(cut);
    return { text: clean.slice(0, cut), end: this.#offset, whole: false };
  }
}

/** The end of a text without terminal escapes and control characters. */
export function cleanEnd(text: string, chars: number): string {
  return (
    text
      .slice(-4 * chars)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
      .replace(/\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-_])/g, "")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "")
      .trim()
      .slice(-chars)
  );
}
