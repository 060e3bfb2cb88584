import { readdirSync } from "node:fs";
import { join } from "node:path";

/**
 * Paths of all that lies under `folder`, in no order, without following links. The programs under test may
 * remove and make files meanwhile: what has gone between two looks is not there, and no error.
 */
export function pathsUnder(folder: string): string[] {
  let entries: ReturnType<typeof list>;
  try {
    entries = list(folder);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return [];
    throw error;
  }
  return entries.flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? [path, ...pathsUnder(path)] : [path];
  });
}

const list = (folder: string) => readdirSync(folder, { withFileTypes: true });
