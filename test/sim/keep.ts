import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { kindOf, shrink } from "./shrink.ts";
import type { Story } from "./story.ts";

/** Stories that broke once, made shorter: they are played first. */
export const keptFolder = fileURLToPath(new URL("kept", import.meta.url));

/** Makes a story that broke shorter and keeps it; gives its path and how many of its items are enough. */
export async function keep(
  story: Story,
  violation: string,
): Promise<{ path: string; items: number }> {
  const shorter = await shrink(story, kindOf(violation));
  const path = join(keptFolder, `${story.realDaemons ? "real-" : ""}seed-${story.seed}.json`);
  mkdirSync(keptFolder, { recursive: true });
  writeFileSync(path, `${JSON.stringify(shorter, null, 2)}\n`);
  return { path, items: shorter.items.length };
}
