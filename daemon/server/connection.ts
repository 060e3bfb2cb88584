import { createParser } from "eventsource-parser";
import type { Logger } from "pino";
import { backoffMs, type Clock } from "../../app/protocol/clock.ts";
import { StreamMessage } from "../../app/protocol/wire.ts";
import type { Slots } from "../run/slots.ts";
import { type Server, ServerError } from "./client.ts";

/** Three heartbeats of the app's without a byte: the connection is dead. */
const silenceMsMax = 45_000;

/** The app refuses this daemon for good: a wrong token, another protocol. */
export class RefusedError extends Error {}

/**
 * Says hello, obeys what the app says of each run, and listens for wake-ups; again with a jittered
 * pause when the connection ends, until `signal` aborts.
 */
export async function keepConnection(
  server: Server,
  slots: Slots,
  clock: Clock,
  log: Logger,
  signal: AbortSignal,
  onConnected: (name: string) => void,
) {
  for (let failures = 0; !signal.aborted; ) {
    try {
      const welcome = await server.hello(slots.hello(), signal);
      await slots.obey(welcome.verdicts);
      onConnected(welcome.name);
      failures = 0;
      await listen(server, slots, clock, signal);
      log.info("the app closed the stream; connecting again");
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ServerError)) throw error;
      if (error.code === "unauthorized" || error.code === "protocol")
        throw new RefusedError(error.message);
      if (failures === 0) log.warn({ why: error.message }, "not connected; trying again");
    }
    failures += 1;
    await clock.sleep(backoffMs(failures, 250, 15_000, Math.random()), signal);
  }
}

async function listen(server: Server, slots: Slots, clock: Clock, outer: AbortSignal) {
  const silent = new AbortController();
  const signal = AbortSignal.any([outer, silent.signal]);
  const response = await server.stream(signal);
  let heardAt = clock.now();
  const watch = setInterval(() => {
    if (clock.now() - heardAt > silenceMsMax) silent.abort();
  }, 5_000);
  const parser = createParser({
    onEvent: ({ data }) => {
      const message = StreamMessage.safeParse(JSON.parse(data));
      if (message.success) hear(slots, message.data);
    },
  });
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body ?? []) {
      heardAt = clock.now();
      parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }));
    }
  } catch (error) {
    if (outer.aborted) return;
    throw new ServerError("unreachable", `the stream broke: ${String(error)}`);
  } finally {
    clearInterval(watch);
  }
}

function hear(slots: Slots, message: StreamMessage) {
  switch (message.type) {
    case "hello":
    case "wake":
      return slots.wake();
    case "cancel":
      return slots.cancel(message.run, message.attempt);
    case "tell":
      return slots.tell(message.run, message.attempt);
    case "drain":
      return void slots.drain();
  }
}
