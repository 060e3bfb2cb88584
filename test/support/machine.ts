import { randomBytes } from "node:crypto";
import type { Fact } from "../../app/protocol/event.ts";
import type { Job } from "../../app/protocol/job.ts";
import type { Settle } from "../../app/protocol/settle.ts";
import { protocolVersion } from "../../app/protocol/version.ts";

/** A daemon's side of the door, spoken by a test: no container, only what one would report. */
export class Machine {
  #url: string;
  #token: string;
  readonly name: string;
  #seqs = new Map<string, number>();

  constructor(appUrl: string, name: string, token: string) {
    this.#url = appUrl;
    this.name = name;
    this.#token = token;
  }

  async ask(
    path: string,
    body: unknown,
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const response = await fetch(`${this.#url}/api/daemon/${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${this.#token}`, "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  }

  async hello(slots: number, agents: string[], held: { run: string; attempt: number }[] = []) {
    const who = { protocol: protocolVersion, version: "0", repositories: ["*"], start: "one" };
    const answer = await this.ask("hello", { ...who, slots, agents, held });
    if (answer.status !== 200) throw new Error(JSON.stringify(answer.body));
    return answer.body as { verdicts: { run: string; verdict: string }[] };
  }

  async claim(): Promise<Job | null> {
    const { body } = await this.ask("claim", { key: randomBytes(9).toString("hex") });
    return body.job as Job | null;
  }

  /** Claims until there is something to do. */
  async work(agent = "hello", acceptsMessages = false): Promise<Job> {
    for (let tries = 0; tries < 800; tries++) {
      const job = await this.claim();
      if (job) {
        const image = "trimo/base:bookworm";
        const limits = { cpus: 1, memoryBytes: 2 ** 29, minutes: 5 };
        await this.tell(job, { type: "started", agent, image, ...limits, acceptsMessages });
        await this.tell(job, { type: "stage", stage: "agent" });
        return job;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("nothing to claim");
  }

  async tell(job: Job, ...facts: Fact[]) {
    const key = `${job.run}-${job.attempt}`;
    const from = this.#seqs.get(key) ?? 0;
    const events = facts.map((fact, i) => ({ ...fact, seq: from + i + 1, at: Date.now() }));
    const answer = await this.ask(`runs/${job.run}/events`, { attempt: job.attempt, events });
    if (answer.status === 200) this.#seqs.set(key, from + facts.length);
    return answer;
  }

  async settle(job: Job, end: Partial<Settle> = {}) {
    const lastSeq = this.#seqs.get(`${job.run}-${job.attempt}`) ?? 0;
    return await this.ask(`runs/${job.run}/settle`, {
      attempt: job.attempt,
      lastSeq,
      outcome: "succeeded",
      failure: null,
      head: null,
      changed: false,
      quota: null,
      ...end,
    });
  }
}
