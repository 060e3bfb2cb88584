import type { Clock } from "../../app/protocol/clock.ts";
import { countMax, type Fact } from "../../app/protocol/event.ts";
import { nothingSpent, type Spent } from "../agents/adapter.ts";

/** US dollars for a million tokens. */
type Price = { input: number; cached: number; output: number };
type Budget = { tokens: number | null; usd: number | null };

/** Usage is told at most this often while it grows. */
const tellEveryMs = 1_000;

/**
 * A count of what a run has used up. The gateway counts tokens where the model is reached through it; the
 * agent's own count is taken where it is not. The cost is by daemon.yml's price, else as the agent tells it.
 */
export class Meter {
  #spent: Spent;
  #told: Spent;
  #toldAt = 0;
  #price: Price | null;
  #budget: Budget;
  #counted: boolean;
  #clock: Clock;
  #tell: (fact: Fact) => void;
  #over: (why: string) => void;
  #isOver = false;

  /** `counted`: the gateway sees every request. `before`: what an earlier daemon had told of this run. */
  constructor(
    parts: { clock: Clock; tell: (fact: Fact) => void; over: (why: string) => void },
    price: Price | null,
    budget: Budget,
    counted: boolean,
    before: Spent,
  ) {
    this.#clock = parts.clock;
    this.#tell = parts.tell;
    this.#over = parts.over;
    this.#price = price;
    this.#budget = budget;
    this.#counted = counted;
    this.#spent = { ...nothingSpent, ...before };
    this.#told = this.#spent;
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** One answer of the service's. */
  add(input: number, cached: number, output: number) {
    const { inputTokens, cachedTokens, outputTokens } = this.#spent;
    this.#take({
      ...this.#spent,
      inputTokens: inputTokens + input,
      cachedTokens: cachedTokens + cached,
      outputTokens: outputTokens + output,
    });
  }

  /** The agent's own count of this run so far; `done`: with its last word, when nothing is left to end. */
  agentSays(count: Spent, done: boolean) {
    const own = this.#spent;
    const most = (name: keyof Spent) => Math.max(own[name], count[name]);
    // Some services do not tell the gateway, and some agents count less than they use.
    const both = {
      inputTokens: most("inputTokens"),
      cachedTokens: most("cachedTokens"),
      outputTokens: most("outputTokens"),
    };
    this.#take({ ...(this.#counted ? both : count), costMicroUsd: count.costMicroUsd }, done);
  }

  /** What was not told yet is told now. */
  flush() {
    if (JSON.stringify(this.#spent) === JSON.stringify(this.#told)) return;
    this.#told = this.#spent;
    this.#toldAt = this.#clock.now();
    this.#tell({ type: "usage", ...this.#spent });
  }

  #take(counted: Spent, done = false) {
    const spent = Object.fromEntries(
      Object.entries(counted).map(([name, value]) => [name, Math.min(value, countMax)]),
    ) as Spent;
    this.#spent = this.#price ? { ...spent, costMicroUsd: cost(spent, this.#price) } : spent;
    if (this.#clock.now() - this.#toldAt >= tellEveryMs) this.flush();
    const why = this.#exceeded();
    if (!why || this.#isOver || done) return;
    this.#isOver = true;
    this.flush();
    this.#over(why);
  }

  #exceeded(): string | null {
    const { inputTokens, outputTokens, costMicroUsd } = this.#spent;
    const { tokens, usd } = this.#budget;
    const used = inputTokens + outputTokens;
    if (tokens !== null && used >= tokens) return `${used} tokens of ${tokens} are used up`;
    if (usd !== null && costMicroUsd >= usd * 1_000_000)
      return `$${(costMicroUsd / 1_000_000).toFixed(2)} of $${usd.toFixed(2)} are spent`;
    return null;
  }
}

const cost = (spent: Spent, price: Price): number =>
  Math.round(
    spent.inputTokens * price.input +
      spent.cachedTokens * price.cached +
      spent.outputTokens * price.output,
  );
