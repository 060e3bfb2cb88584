import { createHmac, randomUUID } from "node:crypto";
import type { Json } from "./objects.ts";
import { appId, bot, type Delivery, type State, slug } from "./state.ts";

const shownMax = 100;
const answerMsMax = 10_000;

/** Deliveries as GitHub makes them: with a GUID and a signature, kept, and sent again when asked. */
export class Deliveries {
  readonly #state: State;
  readonly #url: string;
  /** Comments of the App's that emulate is being told of. */
  #underWay = 0;

  constructor(state: State, url: string) {
    this.#state = state;
    this.#url = url;
  }

  /** Runs what makes a comment of the App's: its delivery may come before it returns. */
  async ofAppComment<T>(make: () => Promise<T>): Promise<T> {
    this.#underWay += 1;
    try {
      return await make();
    } finally {
      this.#underWay -= 1;
    }
  }

  /** Sends what somebody has done in a repository. */
  async send(event: string, login: string, fullName: string, payload: Json, sender?: Json) {
    const repository = await this.#repository(fullName);
    const installation = { id: this.#state.installationOf(fullName.split("/")[0] ?? "") };
    const by = sender ?? { login, type: login.endsWith("[bot]") ? "Bot" : "User" };
    await this.capture(event, { ...payload, repository, installation, sender: by });
  }

  async #repository(fullName: string): Promise<Json> {
    const response = await fetch(`${this.#url}/api/v3/repos/${fullName}`, {
      headers: { authorization: `Bearer ${this.#state.readerToken()}` },
    });
    return (await response.json()) as Json;
  }

  /** Keeps a delivery and sends it, once or as the fault says. */
  async capture(event: string, payload: Json) {
    const fixed = await this.#corrected(event, payload);
    const delivery: Delivery = {
      id: this.#state.newId(),
      guid: randomUUID(),
      event,
      action: (payload.action as string) ?? null,
      status: 0,
      body: JSON.stringify(fixed),
      at: new Date().toISOString(),
    };
    this.#state.deliveries.push(delivery);
    if (this.#state.deliveryFault === "drop") return;
    const times = this.#state.deliveryFault === "double" ? 5 : 1;
    await Promise.all(Array.from({ length: times }, () => this.#deliver(delivery)));
  }

  /** Emulate takes an App's comment for a person's, and a pull request's for an issue's. */
  async #corrected(event: string, payload: Json): Promise<Json> {
    const { byApp } = this.#state;
    const comment = payload.comment as { id: number } | undefined;
    const issue = payload.issue as { number: number } | undefined;
    const full = (payload.repository as { full_name: string } | undefined)?.full_name ?? "";
    let fixed = payload;
    if (event === "issue_comment" && issue && this.#state.isPull(full, issue.number)) {
      const pull_request = { url: `${this.#url}/api/v3/repos/${full}/pulls/${issue.number}` };
      fixed = { ...fixed, issue: { ...issue, pull_request } };
    }
    // The front learns a moment later who wrote it: emulate answers after it has told.
    for (let turns = 0; comment && turns < 200; turns++) {
      if (this.#underWay === 0 || byApp.has(comment.id)) break;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    if (!comment || !byApp.has(comment.id)) return fixed;
    const performed_via_github_app = { id: appId, slug };
    return { ...fixed, sender: bot, comment: { ...comment, user: bot, performed_via_github_app } };
  }

  async #deliver(delivery: Delivery) {
    const { deliverTo, webhookSecret } = this.#state;
    if (!deliverTo) return;
    const signature = createHmac("sha256", webhookSecret).update(delivery.body).digest("hex");
    try {
      const response = await fetchAgain(deliverTo, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "user-agent": "GitHub-Hookshot/standin",
          "x-github-delivery": delivery.guid,
          "x-github-event": delivery.event,
          "x-hub-signature-256": `sha256=${signature}`,
        },
        body: delivery.body,
        signal: AbortSignal.timeout(answerMsMax),
      });
      delivery.status = response.status;
    } catch {
      delivery.status = 502;
    }
  }

  /** As `GET /app/hook/deliveries` shows them, the newest first. */
  list(): Json[] {
    const newest = [...this.#state.deliveries].reverse().slice(0, shownMax);
    return newest.map(({ id, guid, event, action, status, at }) => ({
      id,
      guid,
      event,
      action,
      status_code: status,
      status: status < 300 ? "OK" : "Failed",
      delivered_at: at,
      duration: 0,
      redelivery: false,
      installation_id: this.#state.installationOf(this.#state.owners[0] ?? ""),
      repository_id: null,
    }));
  }

  /** Sends one again, as a row of its own; false: there is none of this id. */
  redeliver(id: number): boolean {
    const delivery = this.#state.deliveries.find((row) => row.id === id);
    if (!delivery) return false;
    const again = { ...delivery, id: this.#state.newId(), at: new Date().toISOString() };
    this.#state.deliveries.push(again);
    void this.#deliver(again);
    return true;
  }
}

/** Once more where the other side had closed a connection that was kept for it. */
export async function fetchAgain(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (error) {
    const { code } = ((error as Error).cause ?? {}) as { code?: string };
    if (code !== "ECONNRESET" && code !== "UND_ERR_SOCKET") throw error;
    return await fetch(url, init);
  }
}
