import type { Pull } from "../../app/github/objects.ts";
import type { Faults } from "./faults.ts";
import { between, type World } from "./world.ts";

// GitHub's state, what people do there, and its deliveries. One repository, one installation.

const repository = { id: 7, full_name: "acme/app", default_branch: "main" };
const installation = 1;
export const appId = 1;
export const appLogin = "trimo[bot]";
const ana = { login: "ana", type: "User" };
const bot = { login: appLogin, type: "Bot" };

type Comment = { id: number; body: string; by: string; at: number };
export type Check = {
  id: number;
  sha: string;
  externalId: string;
  name: string;
  status: string;
  title: string;
};
export type PullRequest = Pull & { head: string; merged: boolean };
type Try = { id: number; at: number; status: number };
export type Delivery = { guid: string; event: string; payload: string; tries: Try[] };
/** Takes a delivery; gives the status of its answer. */
type Receiver = (delivery: Delivery) => Promise<number>;

/** How long a delivery takes, in milliseconds. */
const deliveryMs = { least: 20, most: 1_500, calm: 22 };

export class GitHubState {
  readonly branches = new Map<string, string>();
  readonly comments = new Map<number, Comment[]>();
  readonly labels = new Map<number, Set<string>>();
  readonly checks: Check[] = [];
  readonly pulls: PullRequest[] = [];
  readonly deliveries: Delivery[] = [];
  /** The commits on which CI has failed. */
  readonly failed: { branch: string; sha: string }[] = [];
  /** When comments and pull requests were written by the app, in milliseconds since 1970. */
  readonly written: number[] = [];
  /** Null: nobody answers. */
  receiver: Receiver | null = null;
  calm = false;
  readonly #world: World;
  readonly #faults: Faults;
  readonly #chance: () => number;
  #ids = 0;

  constructor(world: World, faults: Faults) {
    this.#world = world;
    this.#faults = faults;
    this.#chance = world.chance("deliveries");
    this.branches.set(repository.default_branch, "a".repeat(40));
  }

  nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }

  /** A commit id that nothing else has. */
  nextSha(): string {
    return `c0ffee${this.nextId().toString(16).padStart(34, "0")}`;
  }

  commentsOn(issue: number): Comment[] {
    const known = this.comments.get(issue) ?? [];
    this.comments.set(issue, known);
    return known;
  }

  labelsOn(issue: number): Set<string> {
    const known = this.labels.get(issue) ?? new Set<string>();
    this.labels.set(issue, known);
    return known;
  }

  label(issue: number, name: string, on: boolean, by: "ana" | "app" = "ana") {
    const labels = this.labelsOn(issue);
    if (labels.has(name) === on) return;
    if (on) labels.add(name);
    else labels.delete(name);
    this.#world.say(by, on ? "labels" : "unlabels", `#${issue}`, name);
    const sender = by === "ana" ? ana : bot;
    const action = on ? "labeled" : "unlabeled";
    this.#deliver("issues", { action, issue: this.#issue(issue), label: { name }, sender });
  }

  /** Gives the comment and the GUID of its delivery. */
  comment(issue: number, body: string): { comment: Comment; guid: string } {
    const { now } = this.#world;
    const comment = { id: this.nextId(), body, by: ana.login, at: now };
    this.commentsOn(issue).push(comment);
    this.#world.say("ana says at", `#${issue}`, body);
    const { id } = comment;
    const guid = this.#deliver("issue_comment", {
      action: "created",
      issue: this.#issue(issue),
      comment: { id, body, created_at: seconds(now) },
      sender: ana,
    });
    return { comment, guid };
  }

  closePull(pull: PullRequest) {
    if (pull.state === "closed") return;
    pull.state = "closed";
    this.#world.say("ana closes the pull request", pull.number);
    this.#deliver("pull_request", {
      action: "closed",
      pull_request: this.#pull(pull),
      sender: ana,
    });
  }

  reopenPull(pull: PullRequest) {
    if (pull.state !== "closed" || pull.merged || !this.branches.has(pull.head)) return;
    pull.state = "open";
    this.#world.say("ana reopens the pull request", pull.number);
    const pull_request = this.#pull(pull);
    this.#deliver("pull_request", { action: "reopened", pull_request, sender: ana });
  }

  suiteFails(branch: string) {
    const head_sha = this.branches.get(branch) ?? "";
    this.failed.push({ branch, sha: head_sha });
    this.#world.say("CI fails on", branch);
    const app = { id: 99, name: "CI" };
    const check_suite = { head_sha, head_branch: branch, conclusion: "failure", app };
    this.#deliver("check_suite", { action: "completed", check_suite, sender: ana });
  }

  /** Sends a delivery again, by the id of one of its tries. */
  redeliver(id: number) {
    const delivery = this.deliveries.find((one) => one.tries.some((row) => row.id === id));
    if (delivery) this.#send(delivery, between(this.#chance, 20, 300));
  }

  #deliver(event: string, payload: object): string {
    const guid = `guid-${this.deliveries.length}`;
    const whole = { installation: { id: installation }, repository, ...payload };
    const delivery = { guid, event, payload: JSON.stringify(whole), tries: [] };
    this.deliveries.push(delivery);
    const most = this.calm ? deliveryMs.calm : deliveryMs.most;
    this.#send(delivery, between(this.#chance, deliveryMs.least, most), true);
    return guid;
  }

  #send(delivery: Delivery, ms: number, isFirst = false) {
    const fault = isFirst ? this.#faults.delivery.shift() : undefined;
    if (fault) this.#world.say("delivery", delivery.guid, "is", fault.how);
    const late = fault?.how === "late" ? fault.ms : 0;
    const hand = async () => {
      const row = { id: this.nextId(), at: this.#world.now, status: 502 };
      delivery.tries.push(row);
      if (fault?.how === "refused") row.status = 401;
      else if (fault?.how === "lost" || !this.receiver) return;
      else {
        const status = await this.receiver(delivery);
        if (fault?.how !== "unanswered") row.status = status;
      }
    };
    this.#world.at(ms + late, () => void hand());
    if (fault?.how === "doubled") this.#world.at(ms + fault.ms, () => void hand());
  }

  #issue(number: number) {
    const labels = [...this.labelsOn(number)].map((name) => ({ name }));
    const comments = this.commentsOn(number).length;
    const updated_at = seconds(this.#world.now);
    const title = `Issue ${number}`;
    return { number, title, body: "do it", state: "open", comments, labels, updated_at };
  }

  #pull({ number, nodeId, body, state, head, merged }: PullRequest) {
    return {
      number,
      title: `Pull ${number}`,
      body,
      state: state === "closed" ? "closed" : "open",
      merged,
      labels: [],
      draft: state === "draft",
      node_id: nodeId,
      base: { ref: repository.default_branch },
      head: { sha: this.branches.get(head) ?? "0".repeat(40), ref: head, repo: repository },
      updated_at: seconds(this.#world.now),
    };
  }
}

/** GitHub's times are whole seconds. */
export const seconds = (at: number): string =>
  new Date(Math.floor(at / 1_000) * 1_000).toISOString().replace(".000Z", "Z");
