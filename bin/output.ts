/** Prints a line for whoever ran the command. */
export function print(line: string) {
  process.stdout.write(`${line}\n`);
}

/** Says what was wrong and how to mend it, and ends the process with 1. */
export function fail(sentence: string): never {
  process.stderr.write(`✖ ${sentence}\n`);
  process.exit(1);
}
