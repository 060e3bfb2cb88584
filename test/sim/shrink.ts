import { play } from "./play.ts";
import type { Story } from "./story.ts";

/** The most plays of one shrinking. */
const playsMax = 200;

/**
 * A shorter story with a violation of the same kind: halves, quarters … and at last single items are left
 * out as long as it still breaks. `kind`: the violation without its numbers.
 */
export async function shrink(story: Story, kind: string): Promise<Story> {
  const breaks = async (shorter: Story) =>
    (await play(shorter)).violations.some((what) => kindOf(what) === kind);
  let items = story.items;
  let plays = 0;
  for (let size = Math.ceil(items.length / 2); size >= 1 && plays < playsMax; ) {
    let shortened = false;
    for (let from = 0; from < items.length && plays < playsMax; ) {
      const without = [...items.slice(0, from), ...items.slice(from + size)];
      plays += 1;
      if (await breaks({ ...story, items: without })) {
        items = without;
        shortened = true;
      } else from += size;
    }
    if (size === 1 && !shortened) break;
    size = size === 1 ? 1 : Math.ceil(size / 2);
  }
  return { ...story, items };
}

/** A violation without its numbers and names: those of one kind are one fault. */
export function kindOf(what: string): string {
  return what.replaceAll(/#?\d+(\.\d+)?/g, "N").replaceAll(/run [a-z0-9]{12}/g, "run");
}
