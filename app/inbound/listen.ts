import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "pino";
import type { GitHub } from "../github/app.ts";
import type { Clock } from "../protocol/clock.ts";
import type { Inbox } from "./inbox.ts";
import { placeOfDelivery } from "./place.ts";

/** GitHub caps payloads at 25 MB; a larger body is not GitHub's. */
const bodyBytesMax = 26 * 1024 * 1024;

const path = "/api/github/webhooks";

/** Takes a request if it is a delivery; false: it is for somebody else. */
export type WebhookListener = (request: IncomingMessage, response: ServerResponse) => boolean;

type Parts = { inbox: Inbox; github: Pick<GitHub, "verify">; clock: Clock; log: Logger };

/**
 * Takes deliveries in: verifies the raw bytes, stores them under GitHub's GUID, commits, and only then
 * answers 202. It uses Node's own request and response: a burst is many small requests, and nothing else
 * of the app is asked as often.
 */
export function webhookListener(parts: Parts): WebhookListener {
  return (request, response) => {
    if (request.method !== "POST" || request.url?.split("?")[0] !== path) return false;
    const answer = (status: number, text: string) => {
      response.writeHead(status, { "content-type": "text/plain; charset=utf-8" });
      response.end(`${text}\n`);
    };
    take(parts, request)
      .then(({ status, text }) => answer(status, text))
      .catch((error) => {
        parts.log.error({ err: error }, "a delivery could not be stored");
        answer(500, "The delivery could not be stored; the app's log has the reason.");
      });
    return true;
  };
}

async function take(
  { inbox, github, clock }: Parts,
  request: IncomingMessage,
): Promise<{ status: number; text: string }> {
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
    return refused(400, "A delivery needs the headers X-GitHub-Delivery and X-GitHub-Event.");
  const body = await readBody(request);
  if (body === null) return refused(413, "A delivery is at most 25 MB.");
  if (!(await github.verify(body, signature)))
    return refused(401, "The signature does not match the body: is WEBHOOK_SECRET the App's?");
  await inbox.put({ guid, event, payload: body, at: clock.now(), ...placeOfDelivery(body) });
  return { status: 202, text: "stored" };
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
