import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import { Messages } from "../../../daemon/gateway/messages.ts";

// What people say to a run, fetched by its driver over HTTP.

let server: Server;
let url: string;
let messages: Messages;
let delivered: number[];
beforeEach(async () => {
  delivered = [];
  messages = new Messages(systemClock, 4, ({ id }) => delivered.push(id));
  server = createServer((request, response) => messages.serve(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/messages`;
});
afterEach(() => {
  server.closeAllConnections();
  server.close();
});
const ask = async (after: number) => await (await fetch(`${url}?after=${after}`)).json();
const say = (...ids: number[]) =>
  messages.take(ids.map((id) => ({ id, by: "ana", text: `text ${id}` })));

test("one has arrived when the driver asks for the next, not when it was written", async () => {
  say(5, 6);
  expect(await ask(4)).toEqual({ id: 5, text: "text 5" });
  expect(delivered).toEqual([]);
  // Its connection broke: it asks again.
  expect(await ask(4)).toEqual({ id: 5, text: "text 5" });
  expect(delivered).toEqual([]);
  expect(await ask(5)).toEqual({ id: 6, text: "text 6" });
  expect(delivered).toEqual([5]);
  void ask(6).catch(() => {});
  await expect.poll(() => delivered).toEqual([5, 6]);
});

test("a daemon that was restarted tells none twice, and none again that it had told of", async () => {
  say(3, 4, 5);
  expect(await ask(0)).toEqual({ id: 5, text: "text 5" });
  void ask(5).catch(() => {});
  void ask(5).catch(() => {});
  await expect.poll(() => delivered).toEqual([5]);
});
