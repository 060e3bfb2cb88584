import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { getConnInfo } from "@hono/node-server/conninfo";
import { type Context, Hono } from "hono";
import { streamSSE } from "hono/streaming";
import type { Database } from "../app/database.ts";
import { eventsAfter } from "../app/event.ts";
import { RunId } from "../app/protocol/names.ts";
import type { Clock } from "../app/protocol/pace.ts";
import { findRun, isOver } from "../app/run.ts";
import { sentence, viewRun } from "../app/view.ts";
import type { Wake } from "../app/wake.ts";
import { Home } from "./home.tsx";
import { machines, recentIntents, recentPipelines } from "./queries.ts";
import { clockTime, RunPage } from "./run.tsx";

type Parts = {
  db: Database;
  clock: Clock;
  wake: Wake;
  webUrl: string;
  /** The app is reached from outside: a proxy makes everybody look local, so nobody is let in. */
  published: boolean;
};

/** Events shown on a run's page at once, and sent in one piece while it is live. */
const eventsMax = 2_000;
const pieceMax = 200;
const heartbeatMs = 15_000;

/** Pages for people. Until there is a sign-in, only for those on the app's own machine. */
export function dashboardRoutes({ db, clock, wake, webUrl, published }: Parts): Hono {
  const pages = new Hono();
  const css = readFileSync(stylesheet(), "utf8");
  for (const path of ["/", "/runs/*", "/style.css"])
    pages.use(path, async (c, next) => {
      if (published || !isLocal(c)) return c.text(closed, 403);
      c.header("Content-Security-Policy", policy);
      c.header("X-Content-Type-Options", "nosniff");
      c.header("Referrer-Policy", "same-origin");
      await next();
    });
  pages.get("/style.css", (c) => c.body(css, 200, { "Content-Type": "text/css" }));
  pages.get("/", async (c) => {
    const rows = await recentPipelines(db);
    const all = await machines(db);
    const intents = await recentIntents(db);
    const props = { rows, machines: all, intents, now: clock.now(), webUrl };
    return c.html(<Home {...props} />);
  });
  pages.get("/runs/:id", async (c) => {
    const id = c.req.param("id");
    const view = RunId.safeParse(id).success ? await viewRun(db, id, clock.now()) : null;
    if (!view) return c.text("There is no such run.\n", 404);
    const events = await eventsAfter(db, id, 0, eventsMax);
    const over = isOver(view.run.state);
    return c.html(<RunPage {...{ view, events, webUrl, over, now: clock.now() }} />);
  });
  pages.get("/runs/:id/events", async (c) => {
    const id = c.req.param("id");
    const after = Number(c.req.header("last-event-id") ?? c.req.query("after") ?? 0);
    if (!RunId.safeParse(id).success || !(await findRun(db.read, id)))
      return c.text("There is no such run.\n", 404);
    c.header("X-Accel-Buffering", "no");
    return streamSSE(c, async (stream) => {
      let last = Number.isInteger(after) ? after : 0;
      let news = true;
      let waiting: (() => void) | null = null;
      const onRun = (which: string) => {
        if (which !== id) return;
        news = true;
        waiting?.();
      };
      wake.on("run", onRun);
      stream.onAbort(() => waiting?.());
      while (!stream.aborted && !stream.closed) {
        news = false;
        const piece = await eventsAfter(db, id, last, pieceMax);
        for (const event of piece) {
          last = event.id;
          const heads = ["stage", "started", "claimed", "ended", "receipt", "commit"];
          const data = {
            at: event.at,
            time: clockTime(event.at),
            text: sentence(event.type, event.data),
            heads: heads.includes(event.type),
          };
          await stream.writeSSE({
            event: "fact",
            id: String(event.id),
            data: JSON.stringify(data),
          });
        }
        if (piece.length === pieceMax) continue;
        const run = await findRun(db.read, id);
        if (!run || isOver(run.state)) {
          await stream.writeSSE({ event: "over", data: run?.state ?? "" });
          break;
        }
        if (news) continue;
        await new Promise<void>((resolve) => {
          waiting = resolve;
          setTimeout(resolve, heartbeatMs);
        });
        if (!news) await stream.write(": still here\n\n");
      }
      wake.off("run", onRun);
    });
  });
  return pages;
}

const closed =
  "The dashboard is open on the app's own machine only, and not at all while TRIMO_PUBLIC_URL names another, until sign-in exists.\n";
const policy =
  "default-src 'none'; style-src 'self'; script-src 'unsafe-inline'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'; form-action 'none'";

/** From this machine, to a local name (no other page's name rebound to it), through no proxy. */
function isLocal(c: Context): boolean {
  const address = getConnInfo(c).remote.address ?? "";
  const name = (c.req.header("host") ?? "").replace(/:\d+$/, "");
  const near = ["127.0.0.1", "::1", "::ffff:127.0.0.1"].includes(address);
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(name);
  const proxied = c.req.header("x-forwarded-for") ?? c.req.header("forwarded");
  return near && local && !proxied;
}

function stylesheet(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const found = [join(here, "style.css"), join(here, "../../dashboard/style.css")].find(existsSync);
  if (!found) throw new Error("dashboard/style.css is missing from this installation of Trimo");
  return found;
}
