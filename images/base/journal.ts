import { appendFileSync, chmodSync, existsSync } from "node:fs";
import { type Line, places } from "./task.ts";

/** A step failed for a reason that has a code; the run ends with it. */
export class Failed extends Error {
  readonly code: Extract<Line, { type: "failed" }>["code"];
  constructor(code: Extract<Line, { type: "failed" }>["code"], detail: string) {
    super(detail);
    this.code = code;
  }
}

type WithoutTime<T> = T extends unknown ? Omit<T, "at"> : never;
/** Writes a line of the journal, with its time. */
export function write(line: WithoutTime<Line>) {
  const fresh = !existsSync(places.journal);
  appendFileSync(places.journal, `${JSON.stringify({ at: Date.now(), ...line })}\n`);
  if (fresh) chmodSync(places.journal, 0o644);
}
