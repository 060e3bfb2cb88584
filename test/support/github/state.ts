import { generateKeyPairSync, randomBytes } from "node:crypto";
import type { Breach } from "./conformance.ts";
import type { DeliveryFault, Fault } from "./faults.ts";
import type { CheckRun, Json } from "./objects.ts";
import type { Repositories } from "./repositories.ts";

// What the stand-in knows; no HTTP is spoken here.

export type Seed = {
  /** `owner/name`; `source` is a local repository to clone, or null for an empty one. */
  repositories: { fullName: string; source: string | null }[];
  /** Logins with what they may do in every repository. */
  people: Record<string, "admin" | "push" | "pull" | "triage">;
  port?: number;
};

export type Delivery = {
  id: number;
  guid: string;
  event: string;
  action: string | null;
  /** What the App answered; 0: nothing yet. */
  status: number;
  body: string;
  at: string;
};

/** Whose a token is. */
export type Holder =
  | { kind: "person"; login: string }
  | { kind: "app" }
  | {
      kind: "installation";
      account: string;
      /** Null: all of the account's. */
      repositories: string[] | null;
      permissions: Record<string, string>;
    };

export const appId = 4242;
export const slug = "trimo";
export const bot = { login: `${slug}[bot]`, type: "Bot" };
const firstInstallation = 77;

export class State {
  readonly seed: Seed;
  readonly repositories: Repositories;
  /** The login of the first of the people, who may see everything. */
  readonly first: string;
  /** The accounts that have installed the App. */
  readonly owners: string[];
  readonly privateKey: string;
  readonly webhookSecret = randomBytes(20).toString("hex");
  readonly tokens = new Map<string, Holder>();
  readonly #readers: string[];
  #turn = 0;
  #lastId = 999;

  checks: CheckRun[] = [];
  reactions: { comment: number; content: string }[] = [];
  reviews: (Json & { fullName: string; pull: number })[] = [];
  reviewComments: (Json & { fullName: string; pull: number; created_at: string })[] = [];
  deliveries: Delivery[] = [];
  /** Where the App takes deliveries; null: nowhere yet. */
  deliverTo: string | null = null;
  deliveryFault: DeliveryFault = "none";
  faults: Fault[] = [];
  /** How long git over HTTP does not answer, in milliseconds. */
  gitDelayMs = 0;
  /** Git over HTTP answers 503, as in an outage. */
  gitAway = false;
  breaches: Breach[] = [];
  /** Every request of the App's, as `METHOD /path`, with its time. */
  requests: { at: number; line: string; status: number }[] = [];
  mintedTokens: string[] = [];
  /** Comments that the App wrote, and how often each comment was edited. */
  readonly byApp = new Set<number>();
  readonly edits = new Map<number, number>();
  /** By `owner/name#number`: whether a pull request is a draft, and the head it had last. */
  readonly drafts = new Map<string, boolean>();
  readonly lastHeads = new Map<string, string>();
  /** Merged pull requests, as `owner/name#number`. */
  readonly merged = new Set<string>();
  /** `owner/name#number` of a pull request by its GraphQL id. */
  readonly pullByNode = new Map<string, string>();

  constructor(seed: Seed, repositories: Repositories) {
    this.seed = seed;
    this.repositories = repositories;
    this.first = Object.keys(seed.people)[0] ?? "";
    this.owners = [...new Set(seed.repositories.map((row) => row.fullName.split("/")[0] ?? ""))];
    this.privateKey = generateKeyPairSync("rsa", {
      modulusLength: 2048,
      privateKeyEncoding: { type: "pkcs8", format: "pem" },
      publicKeyEncoding: { type: "spki", format: "pem" },
    }).privateKey;
    for (const login of Object.keys(seed.people))
      this.tokens.set(`ghp_${login}_${randomBytes(8).toString("hex")}`, { kind: "person", login });
    // emulate allows each token 5,000 requests an hour; a test that looks often reads with many.
    this.#readers = Array.from({ length: 60 }, (_, i) => `ghp_reader_${i}`);
    for (const token of this.#readers)
      this.tokens.set(token, { kind: "person", login: this.first });
  }

  newId(): number {
    this.#lastId += 1;
    return this.#lastId;
  }

  installationOf(owner: string): number {
    return firstInstallation + this.owners.indexOf(owner);
  }

  ownerOf(installation: number): string {
    return this.owners[installation - firstInstallation] ?? "";
  }

  tokenOf(login: string): string {
    const found = [...this.tokens].find(
      ([, holder]) => holder.kind === "person" && holder.login === login,
    );
    return found?.[0] ?? "";
  }

  /** A token of the first person's, another at each call. */
  readerToken(): string {
    this.#turn += 1;
    return this.#readers[this.#turn % this.#readers.length] ?? "";
  }

  /** Who asks, by the Authorization header; null: nobody that is known. */
  holderOf(header: string): Holder | null {
    const bearer = /^(?:bearer|token) (\S+)$/i.exec(header)?.[1];
    const basic = /^basic (\S+)$/i.exec(header)?.[1];
    const decoded = Buffer.from(basic ?? "", "base64").toString("utf8");
    const token = bearer ?? decoded.split(":")[1] ?? "";
    if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return { kind: "app" };
    return this.tokens.get(token) ?? null;
  }

  isPull(fullName: string, number: number): boolean {
    return [...this.pullByNode.values()].includes(`${fullName}#${number}`);
  }
}
