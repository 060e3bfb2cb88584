import { join } from "node:path";
import type { Logger } from "pino";
import type { Dispatcher } from "undici";
import type { Clock } from "../../app/protocol/clock.ts";
import { crashAt } from "../../app/protocol/crash.ts";
import { commentMax } from "../../app/protocol/event.ts";
import type { Job } from "../../app/protocol/job.ts";
import { messageMax } from "../../app/protocol/renew.ts";
import type { Config } from "../config.ts";
import type { Disk } from "../disk.ts";
import type { Engine } from "../docker/engine.ts";
import type { Connection } from "../gateway/egress.ts";
import { once } from "../gateway/gateway.ts";
import { apiOf, createGitHubProxy, type GitHubProxy } from "../gateway/github-reads.ts";
import { Messages } from "../gateway/messages.ts";
import { proxyArgs } from "../images/base.ts";
import type { Builds } from "../images/builds.ts";
import { redact } from "../redact.ts";
import type { Repositories } from "../repository/repositories.ts";
import type { Server } from "../server/client.ts";
import { Term } from "../server/lease.ts";
import { Outbox } from "../server/outbox.ts";
import { type TokenKeeper, tokenKeeper } from "../server/token.ts";
import { RecordFile, type RunRecord, runFolder } from "./run-record.ts";
import { type Controls, Signals } from "./signals.ts";

/** The daemon's parts that its runs share. */
export type Parts = {
  config: Config;
  engine: Engine;
  server: Server;
  clock: Clock;
  log: Logger;
  /** Marks this daemon's containers apart from another's on the same engine. */
  identity: string;
  builds: Builds;
  repositories: Repositories;
  disk: Disk;
  /** Connections to models. */
  pool: Dispatcher;
};

/** One attempt under way: what is known of it, and who is told. */
export type Attempt = Readonly<{
  job: Job;
  /** Its folder on this machine, where record, outbox, gate and transcript lie. */
  folder: string;
  record: RecordFile;
  outbox: Outbox;
  /** What is masked in everything that leaves the machine. */
  secrets: Set<string>;
  signals: Signals;
  /** A token to push with; see `tokenKeeper`. */
  pushToken: TokenKeeper;
  /** What `gh` in the container speaks to. */
  github: GitHubProxy;
  /** For how long the attempt is surely this daemon's. */
  term: Term;
  /** What people say to the run while it works. */
  messages: Messages;
  /** Told of each connection to the web, allowed or not, once. */
  onConnection: (connection: Connection) => void;
}>;

/** Opens an attempt's folder, with `before` as its record, or null: a new one. */
export function openAttempt(
  { config, disk, server, clock, log }: Parts,
  job: Job,
  controls: Controls,
  before: RunRecord | null,
): Attempt {
  const folder = runFolder(config.data, job.run, job.attempt);
  const record = before
    ? RecordFile.known(disk, folder, before)
    : RecordFile.create(disk, folder, job);
  if (!before) crashAt("daemon: the record is made");
  const signals = new Signals(controls);
  const secrets = new Set([config.token, ...proxySecrets()]);
  const outbox = new Outbox(join(folder, "outbox.jsonl"), { disk, clock, log });
  const asking = { server, clock, secrets, signal: signals.over };
  const comment = (text: string) => {
    const fact = { type: "comment" as const, text: redact(text, secrets).slice(0, commentMax) };
    // Counted where a restart does not forget it.
    const heard = outbox.hears(fact);
    if (heard) outbox.add(fact);
    return heard;
  };
  const readToken = tokenKeeper(asking, job, "read");
  const delivered = outbox.events.findLast((event) => event.type === "message");
  return {
    job,
    folder,
    record,
    outbox,
    secrets,
    signals,
    term: new Term(clock),
    pushToken: tokenKeeper(asking, job, "push"),
    github: createGitHubProxy(apiOf(config.github), job, readToken, comment, clock),
    messages: new Messages(clock, delivered?.type === "message" ? delivered.id : 0, (message) => {
      const text = redact(message.text, secrets).slice(0, messageMax);
      outbox.add({ type: "message", id: message.id, by: message.by, text });
    }),
    onConnection: once((connection) => outbox.add({ type: "egress", ...connection })),
  };
}

/**
 * Puts on record what a restarted daemon goes on from without reading the run's files again: not before the
 * events that were read from them survive a power cut.
 *
 * @throws Error of the disk's; then nothing is on record.
 */
export async function decide(
  { outbox, record }: Pick<Attempt, "outbox" | "record">,
  changes: Partial<RunRecord>,
) {
  await outbox.saved();
  record.update(changes);
}

/** The passwords of this machine's proxies: a failing build step may print one. */
function proxySecrets(): string[] {
  return Object.values(proxyArgs()).flatMap((url) => {
    const password = URL.canParse(url) ? new URL(url).password : "";
    return password ? [password, decodeURIComponent(password)] : [];
  });
}
