import { redact } from "../redact.ts";

/** A line without an end is handed on in pieces of this many characters. */
const pieceMax = 64 * 1024;

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
