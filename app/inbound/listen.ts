import type { IncomingMessage, ServerResponse } from "node:http";
import { and, asc, eq, inArray, lt, lte, min, ne, sql } from "drizzle-orm";
import type { Logger } from "pino";
import { type GitHub, GitHubError } from "../github/app.ts";
import { backoffMs, type Clock } from "../protocol/clock.ts";
import type { Database } from "../state/database.ts";
import { deliveries } from "../state/schema.ts";
import type { Wake } from "../state/wake.ts";

/** GitHub caps payloads at 25 MB; a larger body is not GitHub's. */
const bodyBytesMax = 26 * 1024 * 1024;
/** A handler that fails this often on one delivery, and not for GitHub's sake, is not asked again. */
const attemptsMax = 5;
/** Deliveries of one commit. */
const batchMax = 100;
/** Turns of the event loop that a commit waits while more arrive. */
const gatherTurns = 20;
/** So many deliveries in one commit are a storm, for as long after it. */
const stormLeast = 4;
const stormMs = 20;
/** How long the worker lets a storm go first. */
const yieldMs = 10;
const yieldMsMax = 500;
/** And of one look of the worker. */
const handledMax = 20;
/** How long the worker waits when nothing wakes it. */
const idleMs = 30_000;
/** Handled deliveries are remembered longer than GitHub can redeliver them (3 days). */
const keptMs = 7 * 24 * 3_600_000;

const path = "/api/github/webhooks";

/** Takes a request if it is a delivery; false: it is for somebody else. */
export type WebhookListener = (request: IncomingMessage, response: ServerResponse) => boolean;

/**
 * The inbox: verify the raw bytes, store under GitHub's number, commit, and only then 202. On Node's own
 * request and response: a storm is many small requests, and nothing else of the app is asked as often.
 */
export function webhookListener(
  inbox: Inbox,
  github: GitHub,
  clock: Clock,
  log: Logger,
): WebhookListener {
  return (request, response) => {
    if (request.method !== "POST" || request.url?.split("?")[0] !== path) return false;
    const answer = (status: number, text: string) => {
      response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
      response.end(`${text}\n`);
    };
    take(request)
      .then(({ status, text }) => answer(status, text))
      .catch((error) => {
        log.error({ err: error }, "a delivery could not be stored");
        answer(500, "The delivery could not be stored; the log has the reason.");
      });
    return true;
  };

  async function take(request: IncomingMessage): Promise<{ status: number; text: string }> {
    const guid = String(request.headers["x-github-delivery"] ?? "");
    const event = String(request.headers["x-github-event"] ?? "");
    const signature = String(request.headers["x-hub-signature-256"] ?? "");
    const refused = (status: number, text: string) => {
      // What is not read is not waited for either.
      request.resume();
      return { status, text };
    };
    if (!signature)
      return refused(401, "The delivery is not signed: X-Hub-Signature-256 is missing.");
    if (!/^[\w-]{1,100}$/.test(guid) || !/^\w{1,60}$/.test(event))
      return refused(400, "X-GitHub-Delivery and X-GitHub-Event are needed.");
    const body = await readBody(request);
    if (body === null) return refused(413, "A delivery is at most 25 MB.");
    if (!(await github.verify(body, signature)))
      return refused(401, "The signature does not fit the body: is WEBHOOK_SECRET the App's?");
    await inbox.put({ guid, event, payload: body, at: clock.now() });
    return { status: 202, text: "stored" };
  }
}

/** Null: it is larger than a delivery may be. */
async function readBody(request: IncomingMessage): Promise<string | null> {
  if (Number(request.headers["content-length"] ?? 0) > bodyBytesMax) return null;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += (chunk as Buffer).length;
    if (bytes > bodyBytesMax) return null;
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks).toString("utf8");
}

type Row = { guid: string; event: string; payload: string; at: number };
export type Inbox = {
  put(row: Row): Promise<void>;
  /** Whether many wait for their 202, or did a moment ago. */
  stormy(): boolean;
};

/**
 * Stores deliveries, those that come while one commit is under way together in the next: a commit waits
 * for the disk, and a storm of labels is a hundred deliveries in a second. Resolves when it is durable,
 * and wakes who handles them.
 */
export function createInbox(db: Database, clock: Clock, wake: Wake): Inbox {
  type Waiting = { row: Row; resolve: () => void; reject: (error: unknown) => void };
  let waiting: Waiting[] = [];
  let writing = false;
  let stormUntil = 0;
  const store = createStore(db);
  const drain = async () => {
    writing = true;
    while (waiting.length > 0) {
      // A commit costs as much as fifty rows: those that are just being read come along.
      for (let before = 0, turns = 0; waiting.length > before && turns < gatherTurns; turns++) {
        before = waiting.length;
        await new Promise((resolve) => setImmediate(resolve));
      }
      const batch = waiting.slice(0, batchMax);
      waiting = waiting.slice(batchMax);
      // One row that cannot be stored must not take the others with it.
      await storeAll(batch).catch(async () => {
        for (const one of batch) await storeAll([one]).catch((error) => one.reject(error));
      });
      if (batch.length >= stormLeast) stormUntil = clock.now() + stormMs;
      wake.emit("deliveries");
    }
    writing = false;
  };
  const storeAll = async (batch: Waiting[]) => {
    await store(batch.map((one) => one.row));
    for (const one of batch) one.resolve();
  };
  return {
    stormy: () => (writing && waiting.length >= stormLeast) || clock.now() < stormUntil,
    put: (row) =>
      new Promise((resolve, reject) => {
        waiting.push({ row, resolve, reject });
        if (!writing) void drain();
      }),
  };
}

/**
 * Once a number; one that had failed for good is taken up again when GitHub sends it again. One statement
 * for each count of rows: to make it takes as long as to run it.
 */
function createStore(db: Database): (rows: Row[]) => Promise<void> {
  const statements = new Map<number, ReturnType<Database["statement"]>>();
  const made = (count: number) =>
    db.statement((writer) =>
      writer
        .insert(deliveries)
        .values(
          Array.from({ length: count }, (_, i) => ({
            guid: sql.placeholder(`guid${i}`),
            event: sql.placeholder(`event${i}`),
            payload: sql.placeholder(`payload${i}`),
            state: "pending" as const,
            receivedAt: sql.placeholder(`at${i}`),
            dueAt: sql.placeholder(`at${i}`),
          })),
        )
        .onConflictDoUpdate({
          target: deliveries.guid,
          set: {
            state: "pending",
            payload: sql`excluded.payload`,
            attempts: 0,
            dueAt: sql`excluded.due_at`,
          },
          setWhere: eq(deliveries.state, "failed"),
        })
        .prepare(),
    );
  return async (rows) => {
    const statement = statements.get(rows.length) ?? made(rows.length);
    statements.set(rows.length, statement);
    const values: Record<string, string | number> = {};
    for (const [i, { guid, event, payload, at }] of rows.entries()) {
      values[`guid${i}`] = guid;
      values[`event${i}`] = event;
      values[`payload${i}`] = payload;
      values[`at${i}`] = at;
    }
    await statement(values);
  };
}

/** Hands stored deliveries to the handlers, in the order they came, until `signal` aborts. */
export async function runDeliveries(
  db: Database,
  inbox: Inbox,
  github: GitHub,
  clock: Clock,
  wake: Wake,
  log: Logger,
  signal: AbortSignal,
) {
  while (!signal.aborted) {
    const nudged = nextWake(wake, signal);
    const due = await db.read
      .select()
      .from(deliveries)
      .where(and(sql`state = 'pending'`, lte(deliveries.dueAt, clock.now())))
      .orderBy(asc(deliveries.receivedAt))
      .limit(handledMax);
    if (due.length > 0) {
      nudged.cancel();
      // GitHub waits for its answer, and gives up after ten seconds; what is stored waits better.
      for (let ms = 0; inbox.stormy() && ms < yieldMsMax; ms += yieldMs)
        await clock.sleep(yieldMs, signal);
      await handleAll(db, github, clock, log, due, signal);
      continue;
    }
    await Promise.race([nudged.promise, untilDue(db, clock, nudged.signal)]);
    nudged.cancel();
  }
}

/**
 * One after another. That they are handled is stored at the end, for all at once: killed before that,
 * they are handled again, and their intents' keys make it have no effect.
 */
async function handleAll(
  db: Database,
  github: GitHub,
  clock: Clock,
  log: Logger,
  due: Delivery[],
  signal: AbortSignal,
) {
  const handled: string[] = [];
  for (const delivery of due) {
    if (signal.aborted) break;
    if (await handle(db, github, clock, log, delivery)) handled.push(delivery.guid);
  }
  if (handled.length === 0) return;
  const done = { state: "handled" as const, payload: "", error: null };
  await db.write((tx) => tx.update(deliveries).set(done).where(inArray(deliveries.guid, handled)));
}

type Delivery = typeof deliveries.$inferSelect;

async function untilDue(db: Database, clock: Clock, signal: AbortSignal) {
  const [row] = await db.read
    .select({ dueAt: min(deliveries.dueAt) })
    .from(deliveries)
    .where(sql`state = 'pending'`);
  const wait = row?.dueAt ? Math.max(10, row.dueAt - clock.now()) : idleMs;
  await clock.sleep(Math.min(wait, idleMs), signal);
}

/** Listens before looking, so that a delivery between the look and the wait still wakes. */
function nextWake(wake: Wake, outer: AbortSignal) {
  const stop = new AbortController();
  const signal = AbortSignal.any([outer, stop.signal]);
  const promise = new Promise<void>((resolve) => {
    const done = () => {
      wake.off("deliveries", done);
      resolve();
    };
    wake.on("deliveries", done);
    signal.addEventListener("abort", done, { once: true });
  });
  return { promise, signal, cancel: () => stop.abort() };
}

async function handle(
  db: Database,
  github: GitHub,
  clock: Clock,
  log: Logger,
  delivery: Delivery,
): Promise<boolean> {
  const mine = eq(deliveries.guid, delivery.guid);
  try {
    await github.receive({
      guid: delivery.guid,
      event: delivery.event,
      payload: JSON.parse(delivery.payload),
    });
    return true;
  } catch (error) {
    const attempts = delivery.attempts + 1;
    const cause = firstCause(error);
    const passing = cause instanceof GitHubError && cause.passing;
    const final = !passing && attempts >= attemptsMax;
    const asked = cause instanceof GitHubError ? cause.retryAfterMs : 0;
    const pause = Math.max(asked, backoffMs(attempts, 500, 60_000, Math.random()));
    log.error(
      { err: cause, delivery: delivery.guid, event: delivery.event, final },
      "delivery failed",
    );
    const failed = {
      state: final ? ("failed" as const) : ("pending" as const),
      attempts,
      error: String(cause).slice(0, 500),
      dueAt: clock.now() + pause,
    };
    await db.write((tx) => tx.update(deliveries).set(failed).where(mine));
    return false;
  }
}

/** @octokit/webhooks gathers what handlers throw in an AggregateError. */
function firstCause(error: unknown): unknown {
  if (!(error instanceof AggregateError)) return error;
  const inner = error.errors[0];
  return inner instanceof Error && inner.cause instanceof GitHubError ? inner.cause : inner;
}

/** Which of GitHub's numbers are stored here. */
export async function knownDeliveries(db: Database, guids: string[]): Promise<Set<string>> {
  const known = new Set<string>();
  for (const guid of guids) {
    const rows = await db.read
      .select({ guid: deliveries.guid })
      .from(deliveries)
      .where(eq(deliveries.guid, guid));
    if (rows.length > 0) known.add(guid);
  }
  return known;
}

export async function forgetOldDeliveries(db: Database, at: number) {
  await db.write((tx) =>
    tx
      .delete(deliveries)
      .where(and(ne(deliveries.state, "pending"), lt(deliveries.receivedAt, at - keptMs))),
  );
}
