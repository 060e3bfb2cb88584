import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import type { z } from "zod";
import { canClaim, claimNext } from "../dispatch/claim.ts";
import type { Tokens } from "../github/token.ts";
import type { Clock } from "../protocol/clock.ts";
import { crashAt } from "../protocol/crash.ts";
import { RunId } from "../protocol/names.ts";
import type { Refusal } from "../protocol/refusal.ts";
import { messagesPerRenewalMax } from "../protocol/renew.ts";
import { up } from "../protocol/up.ts";
import { protocolVersion } from "../protocol/version.ts";
import { type Daemon, daemonByToken, isSeenStale, recordSeen } from "../state/daemon.ts";
import type { Database, Reads } from "../state/database.ts";
import { heldLease, renew } from "../state/lease.ts";
import { messagesAfter } from "../state/message.ts";
import { findPipeline } from "../state/pipeline.ts";
import type { Wake } from "../state/wake.ts";
import { welcome } from "./hello.ts";
import { takeEvents } from "./intake.ts";
import { revive } from "./revive.ts";
import { settle } from "./settle.ts";
import { type Attempt, isRefused, mayPush, type Refused } from "./speaks-for.ts";
import { openStream } from "./stream.ts";

const bodyBytesMax = 8 * 1024 * 1024;

type Env = { Variables: { daemon: Daemon } };
type Parts = { db: Database; tokens: Tokens; clock: Clock; wake: Wake };

/** The daemons' endpoints: daemons come in, and nothing of the app's goes out to them. */
export function daemonRoutes(parts: Parts): Hono<Env> {
  const routes = new Hono<Env>();
  routes.use(bodyLimit({ maxSize: bodyBytesMax }));
  routes.use(async (c, next) => {
    const daemon = await knownBy(parts.db.read, c.req.header("authorization") ?? "");
    if (!daemon) return refuse(c, 401, unknownToken);
    c.set("daemon", daemon);
    await next();
  });
  routes.get("/stream", (c) => {
    const shown = c.req.header("authorization") ?? "";
    const isKnown = async () => (await knownBy(parts.db.read, shown)) !== null;
    return openStream(c, c.get("daemon"), parts, isKnown);
  });
  greetAndClaim(routes, parts);
  runEndpoints(routes, parts);
  return routes;
}

const unknownToken: Refusal = {
  code: "unauthorized",
  error: "The app does not know this token: `trimo enroll NAME --again` prints a new one.",
};
const otherProtocol = (theirs: number): Refusal => ({
  code: "protocol",
  error: `This app speaks protocol ${protocolVersion} and the daemon ${theirs}: install the same version of Trimo on both.`,
});

function greetAndClaim(routes: Hono<Env>, { db, clock }: Parts) {
  routes.post("/hello", async (c) => {
    const hello = await read(c, up.hello);
    if (hello instanceof Response) return hello;
    // A daemon from before an update finishes what it has, and takes nothing new.
    const isFinishing = hello.protocol === protocolVersion - 1 && hello.held.length > 0;
    if (hello.protocol !== protocolVersion && !isFinishing)
      return refuse(c, 409, otherProtocol(hello.protocol));
    const said = isFinishing ? { ...hello, slots: 0 } : hello;
    return c.json(await db.write((tx) => welcome(tx, c.get("daemon"), said)));
  });
  routes.post("/claim", async (c) => {
    const claim = await read(c, up.claim);
    if (claim instanceof Response) return claim;
    const daemon = c.get("daemon");
    const now = clock.now();
    const isUseful = await canClaim(db.read, daemon, { claimKey: claim.key, now });
    if (!isUseful && !isSeenStale(daemon, now)) return c.json({ job: null });
    const job = await db.write(async (tx) => {
      await recordSeen(tx, daemon);
      return isUseful ? await claimNext(tx, daemon, claim.key) : null;
    });
    if (job) crashAt("app: a run is granted");
    return c.json({ job });
  });
}

/** What a daemon says of a run it has, each with its attempt. */
function runEndpoints(routes: Hono<Env>, parts: Parts) {
  const { db } = parts;
  routes.post("/runs/:id/renew", async (c) => {
    const request = await read(c, up.renew);
    if (request instanceof Response) return request;
    const of = attemptOf(c, request.attempt);
    return respond(c, await renewed(parts, of, request.received));
  });
  routes.post("/runs/:id/events", async (c) => {
    const request = await read(c, up.events);
    if (request instanceof Response) return request;
    const of = attemptOf(c, request.attempt);
    const taken = await db.write((tx) => takeEvents(tx, of, request.events));
    crashAt("app: events are taken");
    return respond(c, taken);
  });
  routes.post("/runs/:id/token", async (c) => {
    const request = await read(c, up.token);
    if (request instanceof Response) return request;
    const found = await db.write(async (tx) => {
      const run = await mayPush(tx, attemptOf(c, request.attempt), request.purpose);
      return isRefused(run) ? run : await findPipeline(tx, run.pipelineId);
    });
    if (!found || isRefused(found)) return respond(c, found ?? stale);
    const { workspace, repositoryId } = found;
    const { purpose, fresh } = request;
    const token = await parts.tokens.forRepository(workspace, repositoryId, purpose, fresh);
    crashAt("app: a token is minted");
    return c.json(token);
  });
  routes.post("/runs/:id/settle", async (c) => {
    const request = await read(c, up.settle);
    if (request instanceof Response) return request;
    const of = attemptOf(c, request.attempt);
    const settled = await db.write((tx) => settle(tx, of, request));
    crashAt("app: an end is taken");
    return respond(c, settled);
  });
}

const stale: Refused = { code: "stale", error: "This attempt is no longer this daemon's." };

async function renewed({ db }: Parts, of: Attempt, received: number) {
  return await db.write(async (tx) => {
    const { daemon, runId, attempt } = of;
    if (isSeenStale(daemon, tx.now)) await recordSeen(tx, daemon);
    const lease = await heldLease(tx, { runId, attempt, daemonId: daemon.id });
    const leaseMs = lease ? await renew(tx, runId) : await revive(tx, of);
    if (leaseMs === null) return stale;
    const messages = await messagesAfter(tx, runId, received, messagesPerRenewalMax);
    return { leaseMs, cancel: lease?.cancel ?? false, messages };
  });
}

async function knownBy(db: Reads, header: string): Promise<Daemon | null> {
  const token = /^Bearer (\S{1,200})$/i.exec(header)?.[1];
  return token ? await daemonByToken(db, token) : null;
}

async function read<T extends z.ZodType>(c: Context, schema: T): Promise<z.infer<T> | Response> {
  // What is no JSON at all is told like any other body that is not understood.
  const body = await c.req.json().catch(() => null);
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const first = parsed.error.issues[0];
  const where = first?.path.join(".") || "body";
  const error = `${where}: ${first?.message ?? "not understood"}`;
  return refuse(c, 422, { code: "invalid", error });
}

function respond(c: Context, answer: object) {
  if (!isRefused(answer)) return c.json(answer);
  return refuse(c, answer.code === "unknown" ? 404 : 409, answer);
}

function refuse(c: Context, status: 401 | 404 | 409 | 422, refusal: Refusal): Response {
  return c.json(refusal, status);
}

function attemptOf(c: Context<Env>, attempt: number): Attempt {
  const id = c.req.param("id") ?? "";
  return { daemon: c.get("daemon"), runId: RunId.safeParse(id).success ? id : "", attempt };
}
