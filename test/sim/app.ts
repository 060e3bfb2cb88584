import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { pino } from "pino";
import { enroll } from "../../app/daemons/enroll.ts";
import { assemble } from "../../app/main.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import { type Database, openDatabase } from "../../app/state/database.ts";
import { usualPatienceMs } from "../../app/state/refusal.ts";
import { createWake } from "../../app/state/wake.ts";
import type { Faults } from "./faults.ts";
import { connectGitHub } from "./github.ts";
import type { Delivery, GitHubState } from "./github-state.ts";
import { keepPrepared } from "./prepared.ts";
import type { Process, World } from "./world.ts";

/** github.com's pace. */
const writesPerMinute = 70;

type Parts = {
  world: World;
  faults: Faults;
  github: GitHubState;
  /** The database's file. */
  path: string;
  /** What of a machine is to wake. */
  onOffer: (machine: string) => void;
  onCancel: (machine: string, run: string) => void;
  violate: (what: string) => void;
};

/** One process of the app: its real code, all but Probot, on a real libsql file. */
export type AppProcess = Awaited<ReturnType<typeof startApp>>;

/** Starts the app on what the file has. */
export async function startApp(parts: Parts, count: number) {
  keepPrepared();
  const { world, faults, github } = parts;
  const process = world.process(`app-${count}`, () => faults.clockOff);
  const wake = createWake();
  const ids = idsOf(world.chance(`ids-${count}`));
  const url = `file:${parts.path}`;
  const opened = await openDatabase({ url, authToken: undefined, clock: process.clock, ids, wake });
  const db = guarded(opened, process);
  const app = await assemble({
    db,
    github: connectGitHub({ world, faults, state: github, process }),
    clock: process.clock,
    wake,
    log: pino({ level: "silent" }),
    webUrl: "https://github.com",
    publicUrl: () => "https://trimo.example",
    isPublished: false,
    writesPerMinute,
    patienceMs: usualPatienceMs,
    retentionMs: 90 * 24 * 3_600_000,
  });
  wake.on("offer", (machine) => process.alive && parts.onOffer(machine));
  wake.on("cancel", (machine, run) => process.alive && parts.onCancel(machine, run));
  for (const loop of app.run(new RunningState(process.clock)))
    loop.catch((error) => parts.violate(`a loop of the app ended: ${error}`));
  world.say("the app starts");
  const ended = new AbortController();
  return {
    process,
    db,
    /** A machine's stream of wake-ups; it breaks when the app is killed. */
    async stream(token: string): Promise<Response> {
      const headers = { authorization: `Bearer ${token}` };
      const answer = await app.routes.request("/api/daemon/stream", { headers });
      if (!process.alive) throw new Error("unreachable");
      const { signal } = ended;
      return new Response(answer.body?.pipeThrough(new TransformStream(), { signal }), answer);
    },
    enroll: (name: string) => enroll(db, { name, account: null, secret: `secret-of-${name}` }),
    receive: (delivery: Delivery) => hand(app.webhook, delivery),
    async reach(path: string, token: string, body: object) {
      world.touch();
      const text = JSON.stringify(body);
      const answer = await app.routes.request(`/api/daemon/${path}`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${token}`,
          "content-type": "application/json",
          "content-length": String(Buffer.byteLength(text)),
        },
        body: text,
      });
      const read = await answer.json().catch(() => null);
      world.touch();
      // What a dead process has answered never arrives.
      if (!process.alive) throw new Error("unreachable");
      return { status: answer.status, body: read as unknown };
    },
    kill() {
      world.say("the app is killed");
      process.kill();
      ended.abort();
      opened.close();
    },
  };
}

/** The same database, whose answers no dead process gets. */
function guarded(db: Database, process: Process): Database {
  return {
    ...db,
    write: (work) => process.guard(() => db.write(work))(),
    statement: (make) => process.guard(db.statement(make)),
  };
}

function idsOf(chance: () => number) {
  const alphabet = "abcdefghijkmnpqrstuvwxyz23456789";
  const letter = () => alphabet[Math.floor(chance() * alphabet.length)];
  return { next: () => Array.from({ length: 12 }, letter).join("") };
}

/** Hands a delivery to the app's own listener; gives the status of its answer. */
function hand(
  webhook: (request: IncomingMessage, response: ServerResponse) => boolean,
  { guid, event, payload }: Delivery,
): Promise<number> {
  const headers = {
    "x-github-delivery": guid,
    "x-github-event": event,
    "x-hub-signature-256": "sha256=signed",
  };
  const about = { method: "POST", url: "/api/github/webhooks", headers };
  const request = Object.assign(Readable.from([Buffer.from(payload)]), about);
  return new Promise((resolve) => {
    let status = 0;
    const response = {
      writeHead: (code: number) => {
        status = code;
      },
      end: () => resolve(status),
    };
    webhook(request as unknown as IncomingMessage, response as unknown as ServerResponse);
  });
}
