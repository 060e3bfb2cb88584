import { and, asc, eq, lt, lte, min, ne } from "drizzle-orm";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { Logger } from "pino";
import type { Database, Tx } from "./database.ts";
import { type GitHub, GitHubError } from "./github.ts";
import { backoffMs, type Clock } from "./protocol/pace.ts";
import { deliveries } from "./schema.ts";
import type { Wake } from "./wake.ts";

/** GitHub caps payloads at 25 MB; a larger body is not GitHub's. */
const bodyBytesMax = 26 * 1024 * 1024;
/** A handler that fails this often on one delivery, and not for GitHub's sake, is not asked again. */
const attemptsMax = 5;
/** How long the worker waits when nothing wakes it. */
const idleMs = 30_000;
/** Handled deliveries are remembered longer than GitHub can redeliver them (3 days). */
const keptMs = 7 * 24 * 3_600_000;

/** The inbox: verify the raw bytes, store under GitHub's number, commit, and only then 202. */
export function webhookRoutes(db: Database, github: GitHub, clock: Clock, wake: Wake): Hono {
  const routes = new Hono();
  const tooLarge = bodyLimit({
    maxSize: bodyBytesMax,
    onError: (c) => c.text("A delivery is at most 25 MB.\n", 413),
  });
  routes.post("/api/github/webhooks", tooLarge, async (c) => {
    const guid = c.req.header("x-github-delivery") ?? "";
    const event = c.req.header("x-github-event") ?? "";
    const signature = c.req.header("x-hub-signature-256") ?? "";
    if (!signature)
      return c.text("The delivery is not signed: X-Hub-Signature-256 is missing.\n", 401);
    if (!/^[\w-]{1,100}$/.test(guid) || !/^\w{1,60}$/.test(event))
      return c.text("X-GitHub-Delivery and X-GitHub-Event are needed.\n", 400);
    const body = await c.req.text();
    if (!(await github.verify(body, signature)))
      return c.text("The signature does not fit the body: is WEBHOOK_SECRET the App's?\n", 401);
    const at = clock.now();
    const row = {
      guid,
      event,
      payload: body,
      receivedAt: at,
      dueAt: at,
      state: "pending" as const,
    };
    await db.write((tx) => store(tx, row));
    wake.emit("deliveries");
    return c.text("stored\n", 202);
  });
  return routes;
}

/** Once a number; one that had failed for good is taken up again when GitHub sends it again. */
async function store(tx: Tx, row: typeof deliveries.$inferInsert) {
  await tx
    .insert(deliveries)
    .values(row)
    .onConflictDoUpdate({
      target: deliveries.guid,
      set: { state: "pending", payload: row.payload, attempts: 0, dueAt: row.dueAt },
      setWhere: eq(deliveries.state, "failed"),
    });
}

/** Hands stored deliveries to the handlers, in the order they came, until `signal` aborts. */
export async function runDeliveries(
  db: Database,
  github: GitHub,
  clock: Clock,
  wake: Wake,
  log: Logger,
  signal: AbortSignal,
) {
  while (!signal.aborted) {
    const nudged = nextWake(wake, signal);
    const [next] = await db.read
      .select()
      .from(deliveries)
      .where(and(eq(deliveries.state, "pending"), lte(deliveries.dueAt, clock.now())))
      .orderBy(asc(deliveries.receivedAt))
      .limit(1);
    if (next) {
      nudged.cancel();
      await handle(db, github, clock, log, next);
      continue;
    }
    await Promise.race([nudged.promise, untilDue(db, clock, nudged.signal)]);
    nudged.cancel();
  }
}

async function untilDue(db: Database, clock: Clock, signal: AbortSignal) {
  const [row] = await db.read
    .select({ dueAt: min(deliveries.dueAt) })
    .from(deliveries)
    .where(eq(deliveries.state, "pending"));
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
  delivery: typeof deliveries.$inferSelect,
) {
  const mine = eq(deliveries.guid, delivery.guid);
  try {
    await github.receive({
      guid: delivery.guid,
      event: delivery.event,
      payload: JSON.parse(delivery.payload),
    });
    const done = { state: "handled" as const, payload: "", error: null };
    await db.write((tx) => tx.update(deliveries).set(done).where(mine));
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
