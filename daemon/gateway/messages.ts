import type { IncomingMessage, ServerResponse } from "node:http";
import type { Tell } from "../../app/protocol/wire.ts";

/** How long an agent's question for more is held open. */
const heldMs = 25_000;

/** What people said to a run while it works, for the driver inside to fetch. */
export type Tells = {
  /** The last one that came from the app. */
  last: number;
  all: Tell[];
  waiting: Set<() => void>;
  /** Called for each one that is handed in, once. */
  handed: (tell: Tell) => void;
  handedTo: number;
};

export const createTells = (last: number, handed: (tell: Tell) => void): Tells => ({
  last,
  all: [],
  waiting: new Set(),
  handed,
  handedTo: last,
});

export function takeTells(tells: Tells, fresh: Tell[]) {
  for (const tell of fresh)
    if (tell.id > tells.last) {
      tells.all.push(tell);
      tells.last = tell.id;
    }
  for (const wake of [...tells.waiting]) wake();
}

/** `GET /tell?after=N`: the next one as JSON, or 204 after a while. */
export function serveTell(tells: Tells, request: IncomingMessage, response: ServerResponse) {
  const after = Number(new URL(request.url ?? "/", "http://gateway").searchParams.get("after"));
  const next = () => tells.all.find(({ id }) => id > after);
  const done = () => {
    clearTimeout(timer);
    tells.waiting.delete(wake);
  };
  const wake = () => {
    const tell = next();
    if (!tell) return;
    done();
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ id: tell.id, text: tell.text }));
    if (tell.id <= tells.handedTo) return;
    tells.handedTo = tell.id;
    tells.handed(tell);
  };
  const timer = setTimeout(() => {
    done();
    response.writeHead(204).end();
  }, heldMs);
  response.on("close", done);
  tells.waiting.add(wake);
  wake();
}
