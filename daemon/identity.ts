import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// A data folder's mark on its containers and volumes, so that two daemons on one engine never meet.

const pathIn = (data: string): string => join(data, "identity");

/** The identity of a data folder; null: no daemon has worked there. @throws the system's error. */
export function knownIdentity(data: string): string | null {
  return existsSync(pathIn(data)) ? readFileSync(pathIn(data), "utf8").trim() : null;
}

/** The identity of a data folder, made and written (0600) where there is none. @throws the system's error. */
export function identityOf(data: string): string {
  const known = knownIdentity(data);
  if (known !== null) return known;
  const identity = randomBytes(8).toString("hex");
  writeFileSync(pathIn(data), identity, { mode: 0o600 });
  return identity;
}
