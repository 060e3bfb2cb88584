import { createReadStream, statSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { receiveSessionFiles } from "../agents/sessions.ts";

/** What the agent's session is fetched from and left at; only root inside knows the key. */
export type SessionFiles = {
  key: string;
  /** The archive to go on with; null: there is none. */
  from: string | null;
  to: string;
};

/** Serves the session files: `GET /session` before the agent starts, `PUT /session` when it has ended. */
export async function serveSessionFiles(
  sessionFiles: SessionFiles,
  request: IncomingMessage,
  response: ServerResponse,
) {
  if (request.headers["x-trimo-key"] !== sessionFiles.key)
    return void response.writeHead(403).end();
  if (request.method === "PUT") {
    const whole = await receiveSessionFiles(request, sessionFiles.to);
    return void response.writeHead(whole ? 204 : 413).end();
  }
  if (!sessionFiles.from) return void response.writeHead(204).end();
  response.writeHead(200, { "content-length": statSync(sessionFiles.from).size });
  createReadStream(sessionFiles.from)
    .on("error", () => response.destroy())
    .pipe(response);
}
