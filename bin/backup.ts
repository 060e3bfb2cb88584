import { chmodSync, existsSync, mkdirSync, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { readDatabaseUrl } from "../app/config.ts";
import { backUp } from "../app/state/database.ts";
import { fail, print } from "./output.ts";

/** `trimo backup FILE`: a copy of the app's database, made while the app is at work. */
export async function runBackup(file: string) {
  const path = resolve(file);
  const { url } = readDatabaseUrl(process.env);
  if (!url.startsWith("file:"))
    fail(`The database is at ${url}: back it up where it is. \`trimo backup\` copies a file.`);
  const source = url.slice("file:".length);
  if (!existsSync(source))
    fail(`There is no database at ${source}: set TRIMO_DATA or TRIMO_DATABASE_URL as for the app.`);
  if (existsSync(path)) fail(`${path} exists already: name a new file.`);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  await backUp(url, path);
  // It has the hashes of tokens, and people's words.
  chmodSync(path, 0o600);
  print(`✔ ${path} · ${(statSync(path).size / 2 ** 20).toFixed(1)} MB`);
}
