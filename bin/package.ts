import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** A file of the package's root, from the sources and from their compiled form. */
export function packageFile(name: string): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const found = [join(here, "..", name), join(here, "../..", name)].find(existsSync);
  if (!found) throw new Error(`${name} is missing from this installation of Trimo`);
  return found;
}
