import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { getRequestListener } from "@hono/node-server";
import { Hono } from "hono";
import type { Logger } from "pino";
import { dashboardRoutes } from "../dashboard/server.tsx";
import type { Config } from "./config.ts";
import { daemonRoutes } from "./daemons.ts";
import { openDatabase } from "./database.ts";
import { runSchedules } from "./discover.ts";
import { createGitHub } from "./github.ts";
import { registerIntents } from "./intent.ts";
import { createPermissions } from "./permission.ts";
import { systemClock } from "./protocol/pace.ts";
import { runReports } from "./report.ts";
import { sweepDeliveries, sweepLeases } from "./sweep.ts";
import { createTokens } from "./token.ts";
import { createWake } from "./wake.ts";
import { createInbox, runDeliveries, type WebhookListener, webhookListener } from "./webhook.ts";

export type App = { port: number; stop(): Promise<void> };

/** Builds every part, listens, and runs until stopped. The only constructor. */
export async function startApp(config: Config, log: Logger): Promise<App> {
  const clock = systemClock;
  const wake = createWake();
  const db = await openDatabase(config.databaseUrl, config.databaseAuthToken);
  const github = createGitHub(config, log);
  const tokens = createTokens(github, clock);
  const permissions = createPermissions(github, clock);
  const parts = { db, github, permissions, clock, wake };
  registerIntents(parts);

  const server = new Hono();
  server.get("/healthz", async (c) => {
    await db.read.run("select 1");
    return c.text("ok\n");
  });
  server.route("/api/daemon", daemonRoutes({ db, tokens, clock, wake, log }));
  server.route(
    "/",
    dashboardRoutes({ db, clock, wake, webUrl: config.webUrl, published: isPublished(config) }),
  );
  server.notFound((c) => c.text("There is nothing here.\n", 404));
  server.onError((error, c) => {
    log.error({ err: error, path: c.req.path }, "a request failed");
    return c.text("Something went wrong here; the log has it.\n", 500);
  });

  const inbox = createInbox(db);
  const stop = new AbortController();
  const webhook = webhookListener(inbox, github, clock, wake, log);
  const { listener, port } = await listen(server, webhook, config);
  const publicUrl = config.publicUrl ?? `http://${config.host}:${port}`;
  const links = {
    run: (runId: string) => `${publicUrl}/runs/${runId}`,
    pull: (repository: string, number: number) => `${config.webUrl}/${repository}/pull/${number}`,
  };
  const sweep = { db, github, clock, wake, log };
  const loops = [
    runDeliveries(db, inbox, github, clock, wake, log, stop.signal),
    runReports({ ...parts, log, links }, config.writesPerMinute, stop.signal),
    runSchedules({ ...parts, log }, stop.signal),
    sweepLeases(sweep, stop.signal),
    sweepDeliveries(sweep, stop.signal),
  ];
  for (const loop of loops)
    loop.catch((error) => {
      log.fatal({ err: error }, "a loop of the app ended; stopping, so that it is started again");
      process.exitCode = 1;
      stop.abort();
      listener.close();
      setTimeout(() => process.exit(1), 1_000).unref();
    });
  log.info({ port, url: publicUrl }, "the app listens");
  return {
    port,
    async stop() {
      stop.abort();
      const closed = new Promise((resolve) => listener.close(resolve));
      listener.closeAllConnections();
      await closed;
      await Promise.allSettled(loops);
      db.close();
    },
  };
}

/** Behind a name of its own, and so behind a proxy that may make everybody look local. */
function isPublished({ publicUrl }: Config): boolean {
  if (publicUrl === null) return false;
  return !["127.0.0.1", "localhost", "[::1]"].includes(new URL(publicUrl).hostname);
}

async function listen(server: Hono, webhook: WebhookListener, config: Config) {
  const rest = getRequestListener(server.fetch);
  const listener = createServer((request, response) => {
    if (!webhook(request, response)) void rest(request, response);
  });
  return await new Promise<{ listener: typeof listener; port: number }>((resolve, reject) => {
    listener.once("error", reject);
    listener.listen(config.port, config.host, () =>
      resolve({ listener, port: (listener.address() as AddressInfo).port }),
    );
  });
}
