import { createServer, type Server } from "node:http";
import type { Duplex, Readable } from "node:stream";
import { Mux, type MuxStream } from "../../images/base/mux.ts";
import type { Gate } from "../repository/repositories.ts";
import { type Connection, forward, type Rules, tunnelOut } from "./egress.ts";
import { type GitHubProxy, serveGitHub } from "./github-reads.ts";
import type { Messages } from "./messages.ts";
import type { Model } from "./model/model.ts";
import { serveModel } from "./model/proxy.ts";
import { type SessionFiles, serveSessionFiles } from "./session-transfer.ts";

/** The daemon's end of one container's only connection. */
export type Gateway = {
  /** A file of the run's, followed as it grows, from a byte offset. */
  follow(path: string, offset: number): MuxStream;
  /** The rest of a file as it is now. */
  read(path: string, offset: number): MuxStream;
  /** Its last bytes. */
  readEnd(path: string, bytes: number): MuxStream;
  closed: Promise<void>;
  close(): void;
};

/** What a container finds behind its gateway, beside the web. */
export type Endpoints = {
  gate: Gate;
  github: GitHubProxy;
  /** The run's one model; null: its agent has none, or reaches it by itself. */
  model: Model | null;
  messages: Messages;
  sessionFiles: SessionFiles | null;
};

/** Attempts told once each; an agent that tries thousands of hosts says no more with them. */
const toldMax = 200;

/**
 * Carries a container's connections, which come as frames over the stdio of an exec, to an ordinary
 * HTTP server. Who speaks is known by the stream, so no secret is needed inside.
 */
export function openGateway(
  carrier: { input: Duplex; output: Readable },
  endpoints: Endpoints,
  rules: Rules,
  on: { pushed: () => void; connection: (connection: Connection) => void },
): Gateway {
  const server = serve(endpoints, rules, on.pushed, on.connection);
  const mux = new Mux(carrier.output, carrier.input, "daemon", (purpose, stream) => {
    if (purpose.kind !== "connection") return stream.destroy();
    server.emit("connection", stream);
  });
  const closed = new Promise<void>((resolve) => {
    for (const stream of [carrier.input, carrier.output]) {
      // It broke before anybody listened: it was opened ahead, and says so only once.
      if (stream.destroyed) resolve();
      stream.on("close", resolve);
      stream.on("end", resolve);
      stream.on("error", () => resolve());
    }
  });
  return {
    follow: (path, offset) => mux.open({ kind: "tail", path, offset }),
    read: (path, offset) => mux.open({ kind: "read", path, offset }),
    readEnd: (path, bytes) => mux.open({ kind: "read", path, offset: -bytes }),
    closed,
    close() {
      mux.close();
      server.close();
      carrier.input.destroy();
    },
  };
}

function serve(
  { gate, github, model, messages, sessionFiles }: Endpoints,
  rules: Rules,
  pushed: () => void,
  tell: (connection: Connection) => void,
): Server {
  // An answer of a model may begin late and take long.
  const server = createServer({ keepAliveTimeout: 60_000, requestTimeout: 0 });
  server.on("request", (request, response) => {
    const url = request.url ?? "";
    if (model && url.startsWith("/model/"))
      return void serveModel(model, request, response).catch(() => response.destroy());
    if (url.startsWith("/messages")) return messages.serve(request, response);
    if (sessionFiles && url === "/session")
      return void serveSessionFiles(sessionFiles, request, response).catch(() =>
        response.destroy(),
      );
    if (/^\/(repository|snapshot)\.git\//.test(url)) return gate.serve(request, response, pushed);
    if (url === "/github" || url.startsWith("/github/"))
      return void serveGitHub(github, request, response).catch(() => response.destroy());
    if (url.startsWith("http://") && URL.canParse(url))
      return void forward(rules, request, response, tell).catch(() => response.destroy());
    response.writeHead(404, { "content-type": "text/plain" });
    response.end(
      "Trimo's gateway: git under /repository.git, GitHub under /github, the model under /model, everything else by proxy.\n",
    );
  });
  server.on("connect", (request, client: Duplex, head: Buffer) => {
    // The container went away in the middle: there is nobody to tell.
    client.on("error", () => {});
    tunnelOut(rules, request.url ?? "", client, head, tell).catch(() => client.destroy());
  });
  server.on("clientError", (_error, socket) => socket.destroy());
  return server;
}

/** A listener that tells each connection once, and a limited number of them. */
export function once(tell: (connection: Connection) => void): (connection: Connection) => void {
  const told = new Set<string>();
  return (connection) => {
    const key = `${connection.host} ${connection.allowed} ${connection.reason}`;
    if (told.has(key) || told.size >= toldMax) return;
    told.add(key);
    // An agent chooses these texts; the wire has limits for them.
    const { host, allowed, reason } = connection;
    tell({ host: host.slice(0, 300), allowed, reason: reason.slice(0, 200) });
  };
}
