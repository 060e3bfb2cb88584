import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { dataFolder } from "../daemon/config.ts";
import { transcriptPath } from "../daemon/run/run-record.ts";

/** `trimo logs RUN`: all that a run's agent printed on this machine, clean of known secrets. */
export function runLogs(run: string, data: string | undefined) {
  const folder = dataFolder(data, process.env);
  const places = [
    ...namesIn(join(folder, "runs"), run).map(transcriptPath),
    ...namesIn(join(folder, "transcripts"), run),
  ];
  const newest = places.sort().at(-1);
  if (!newest) {
    process.stderr.write(`✖ No run "${run}" has left a transcript under ${folder}\n`);
    process.exitCode = 1;
    return;
  }
  process.stdout.write(readFileSync(newest, "utf8"));
}

function namesIn(folder: string, run: string): string[] {
  try {
    const names = readdirSync(folder).filter((name) => name.startsWith(`${run}-`));
    return names.map((name) => join(folder, name));
  } catch {
    // The daemon has not run here, or not yet any run.
    return [];
  }
}
