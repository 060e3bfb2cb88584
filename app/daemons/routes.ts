import { eq } from "drizzle-orm";
import { type Context, Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { streamSSE } from "hono/streaming";
import type { Logger } from "pino";
import type { z } from "zod";
import { claimNext, type Daemon } from "../dispatch/queue.ts";
import type { Tokens } from "../github/token.ts";
import type { Clock } from "../protocol/clock.ts";
import { RunId } from "../protocol/names.ts";
import { protocolVersion } from "../protocol/version.ts";
import {
  Claim,
  Events,
  Hello,
  type HelloAnswer,
  Renew,
  Settle,
  type StreamMessage,
  TokenRequest,
} from "../protocol/wire.ts";
import { type Database, hashOf, type Tx } from "../state/database.ts";
import { newId } from "../state/identity.ts";
import { held, leaseMs, renew } from "../state/lease.ts";
import { liftPauses } from "../state/pause.ts";
import { findPipeline } from "../state/pipeline.ts";
import { findRun, isOver } from "../state/run.ts";
import { daemons } from "../state/schema.ts";
import { tellsAfter } from "../state/tell.ts";
import type { Wake } from "../state/wake.ts";
import { isRefused, isRescuable, type Refused, settle, speaksFor, takeEvents } from "./intake.ts";

/** Between two signs of life on a stream. */
const heartbeatMs = 15_000;
const bodyBytesMax = 8 * 1024 * 1024;

type Env = { Variables: { daemon: Daemon } };
type Parts = { db: Database; tokens: Tokens; clock: Clock; wake: Wake; log: Logger };

/** The daemons' door: they come in, nothing of ours goes out to them. */
export function daemonRoutes(parts: Parts): Hono<Env> {
  const { db, wake } = parts;
  const door = new Hono<Env>();
  door.use(bodyLimit({ maxSize: bodyBytesMax }));
  door.use(async (c, next) => {
    const daemon = await knownBy(db, c.req.header("authorization") ?? "");
    if (!daemon)
      return c.json(
        {
          code: "unauthorized",
          error: "The token is not known here: `trimo enroll NAME` prints one.",
        },
        401,
      );
    c.set("daemon", daemon);
    await next();
  });
  door.get("/stream", (c) => openStream(c, wake));
  greetAndClaim(door, parts);
  runDoors(door, parts);
  return door;
}

function greetAndClaim(door: Hono<Env>, parts: Parts) {
  const { db, clock } = parts;
  door.post("/hello", async (c) => {
    const hello = await read(c, Hello);
    if (hello instanceof Response) return hello;
    if (hello.protocol !== protocolVersion)
      return c.json(
        {
          code: "protocol",
          error: `This app speaks protocol ${protocolVersion} and the daemon ${hello.protocol}: install the same version of Trimo on both.`,
        },
        409,
      );
    return c.json(await db.write((tx) => welcome(tx, clock.now(), c.get("daemon"), hello)));
  });
  door.post("/claim", async (c) => {
    const claim = await read(c, Claim);
    if (claim instanceof Response) return claim;
    const job = await db.write(async (tx) => {
      const at = clock.now();
      await seen(tx, at, c.get("daemon"));
      return await claimNext(tx, at, c.get("daemon"), claim.key);
    });
    if (job) wakeReaders(parts, job.run);
    return c.json({ job });
  });
}

/** What a daemon says of a run it holds, each with its attempt. */
function runDoors(door: Hono<Env>, parts: Parts) {
  const { db, clock, wake } = parts;
  door.post("/runs/:id/renew", async (c) => {
    const request = await read(c, Renew);
    if (request instanceof Response) return request;
    const answer = await db.write(async (tx) => {
      await seen(tx, clock.now(), c.get("daemon"));
      const lease = await held(tx, runIdOf(c), request.attempt, c.get("daemon").id);
      if (!lease) return stale;
      await renew(tx, clock.now(), lease.runId);
      const tell = await tellsAfter(tx, lease.runId, request.told);
      return { leaseMs, cancel: lease.cancel, tell };
    });
    return respond(c, answer);
  });
  door.post("/runs/:id/events", async (c) => {
    const request = await read(c, Events);
    if (request instanceof Response) return request;
    const answer = await db.write((tx) =>
      takeEvents(tx, clock.now(), c.get("daemon"), runIdOf(c), request.attempt, request.events),
    );
    wakeReaders(parts, runIdOf(c));
    return respond(c, answer);
  });
  door.post("/runs/:id/token", async (c) => {
    const request = await read(c, TokenRequest);
    if (request instanceof Response) return request;
    const found = await db.write(async (tx) => {
      const run = await speaksFor(tx, c.get("daemon"), runIdOf(c), request.attempt);
      return isRefused(run) ? run : await findPipeline(tx, run.pipelineId);
    });
    if (!found || isRefused(found)) return respond(c, found ?? stale);
    const token = await parts.tokens.forRepository(
      found.workspace,
      found.repositoryId,
      request.purpose,
    );
    return c.json({ token: token.token, expiresAt: token.expiresAt });
  });
  door.post("/runs/:id/settle", async (c) => {
    const request = await read(c, Settle);
    if (request instanceof Response) return request;
    const answer = await db.write((tx) =>
      settle(tx, clock.now(), c.get("daemon"), runIdOf(c), request),
    );
    wakeReaders(parts, runIdOf(c));
    wake.emit("queue");
    return respond(c, answer);
  });
}

const stale: Refused = { code: "stale", error: "This attempt is no longer this daemon's." };

/** Enrols a machine: gives its token, once; only a hash of it is kept. */
export async function enroll(
  db: Database,
  at: number,
  name: string,
  account: string | null,
  secret: string,
): Promise<string | { problem: string }> {
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$/.test(name))
    return { problem: `"${name}" is no name for a machine: use letters, digits, . _ and -.` };
  const token = `trimo_${secret}`;
  return await db.write(async (tx) => {
    const known = await tx.select().from(daemons).where(eq(daemons.name, name));
    if (known.length > 0)
      return { problem: `A daemon "${name}" is enrolled already: choose another name.` };
    await tx.insert(daemons).values({
      id: newId(),
      name,
      tokenHash: hashOf(token),
      account,
      repositories: [],
      agents: [],
      createdAt: at,
    });
    return token;
  });
}

async function knownBy(db: Database, header: string): Promise<Daemon | null> {
  const token = /^Bearer (\S{1,200})$/i.exec(header)?.[1];
  if (!token) return null;
  const [row] = await db.read
    .select()
    .from(daemons)
    .where(eq(daemons.tokenHash, hashOf(token)));
  return row ?? null;
}

async function seen(tx: Tx, at: number, daemon: Daemon) {
  await tx.update(daemons).set({ seenAt: at }).where(eq(daemons.id, daemon.id));
}

/** What the daemon can do is stored; about each run it still has it is told what to do. */
async function welcome(tx: Tx, at: number, daemon: Daemon, hello: Hello): Promise<HelloAnswer> {
  const { version, slots, repositories, agents, start } = hello;
  if (start !== daemon.start) await liftPauses(tx, daemon);
  await tx
    .update(daemons)
    .set({ version, slots, repositories, agents, start, seenAt: at })
    .where(eq(daemons.id, daemon.id));
  const verdicts: HelloAnswer["verdicts"] = [];
  for (const { run: runId, attempt } of hello.held)
    verdicts.push({ run: runId, attempt, verdict: await judge(tx, at, daemon, runId, attempt) });
  return { name: daemon.name, verdicts };
}

async function judge(tx: Tx, at: number, daemon: Daemon, runId: string, attempt: number) {
  const lease = await held(tx, runId, attempt, daemon.id);
  const run = await findRun(tx, runId);
  if (run && lease && !isOver(run.state)) {
    await renew(tx, at, runId);
    return lease.cancel ? "cancel" : "continue";
  }
  return run && (await isRescuable(tx, run, attempt, daemon)) ? "rescue" : "kill";
}

function openStream(c: Context<Env>, wake: Wake) {
  c.header("X-Accel-Buffering", "no");
  const daemon = c.get("daemon");
  return streamSSE(c, async (stream) => {
    const send = (message: StreamMessage) =>
      stream.writeSSE({ data: JSON.stringify(message) }).catch(() => stream.abort());
    const onQueue = () => void send({ type: "wake" });
    const onCancel = (name: string, run: string, attempt: number) => {
      if (name === daemon.name) void send({ type: "cancel", run, attempt });
    };
    const onTell = (name: string, run: string, attempt: number) => {
      if (name === daemon.name) void send({ type: "tell", run, attempt });
    };
    wake.on("queue", onQueue);
    wake.on("cancel", onCancel);
    wake.on("tell", onTell);
    await send({ type: "hello", protocol: protocolVersion });
    while (!stream.aborted && !stream.closed) {
      await stream.sleep(heartbeatMs);
      await stream.write(": still here\n\n");
    }
    wake.off("queue", onQueue);
    wake.off("cancel", onCancel);
    wake.off("tell", onTell);
  });
}

function wakeReaders({ wake, db, log }: Parts, runId: string) {
  wake.emit("run", runId);
  void findRun(db.read, runId)
    .then((run) => run && wake.emit("reports", run.workspace))
    .catch((error) => log.error({ err: error, run: runId }, "a run cannot be read"));
}

async function read<T extends z.ZodType>(c: Context, schema: T): Promise<z.infer<T> | Response> {
  const body = await c.req.json().catch(() => null);
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const first = parsed.error.issues[0];
  const where = first?.path.join(".") || "body";
  return c.json({ code: "invalid", error: `${where}: ${first?.message ?? "not understood"}` }, 422);
}

function respond(c: Context, answer: object) {
  if (!isRefused(answer)) return c.json(answer);
  return c.json(answer, answer.code === "unknown" ? 404 : 409);
}

function runIdOf(c: Context): string {
  const id = c.req.param("id") ?? "";
  return RunId.safeParse(id).success ? id : "";
}
