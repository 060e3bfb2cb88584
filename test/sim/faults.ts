import type { Item } from "./story.ts";

type Fault<Kind extends string> = Extract<Item, { fault: Kind }>;

/** The faults that have come due and not yet struck; each strikes once. */
export class Faults {
  /** GitHub answers 503 until then, in milliseconds since 1970. */
  awayUntil = 0;
  /** How far the app's clock is off, in milliseconds. */
  clockOff = 0;
  readonly github: Fault<"github">[] = [];
  readonly delivery: Fault<"delivery">[] = [];
  readonly network = new Map<string, Fault<"network">[]>();
  /** Machines without a network, and until when. */
  readonly cutUntil = new Map<string, number>();

  /** From here on nothing breaks. */
  end() {
    this.awayUntil = 0;
    this.github.length = 0;
    this.delivery.length = 0;
    this.network.clear();
    this.cutUntil.clear();
  }
}
