import { createParser } from "eventsource-parser";
import type { Logger } from "pino";
import type { Hello, HelloAnswer } from "../../app/protocol/hello.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import { StreamMessage } from "../../app/protocol/stream.ts";
import { type Server, ServerError } from "./client.ts";

/** Three heartbeats of the app's without a byte: the connection is dead. In milliseconds. */
const silenceMsMax = 45_000;
const lookEveryMs = 5_000;
const reconnect = { baseMs: 250, mostMs: 15_000 };
/** How often an app is asked again that refuses a daemon with runs in hand, in milliseconds. */
const refusedEveryMs = 60_000;

/** The app refuses this daemon for good: its token is wrong, or it speaks another protocol. */
export class RefusedError extends Error {}

/** What is told of the app, and tells it who this daemon is. */
export type Listener = {
  hello(): Hello;
  /** Whether runs are under way here: they go on, whatever the app says of the daemon. */
  hasRuns(): boolean;
  /** The app is there, and says what becomes of each run this daemon has. */
  connected(answer: HelloAnswer): Promise<void>;
  heard(message: StreamMessage): void;
};

type Parts = { server: Server; listener: Listener; log: Logger };

/**
 * Says hello, hears what the app says of each run, and listens for wake-ups; again with a jittered pause
 * when the connection ends, until `state` stops. An app that refuses it, after an update or on another
 * database, is asked again each minute while runs are under way: their endpoints may well take them.
 *
 * @throws RefusedError when the app refuses this daemon, and nothing is under way.
 */
export async function keepConnection({ server, listener, log }: Parts, state: RunningState) {
  while (state.running) {
    try {
      await listener.connected(await server.hello(listener.hello(), state.signal));
      state.succeeded();
      await listen(server, listener, state);
      log.info("the app closed the stream; connecting again");
    } catch (error) {
      if (!state.running) return;
      if (!(error instanceof ServerError)) throw error;
      if (error.code === "unauthorized" || error.code === "protocol") {
        if (!listener.hasRuns()) throw new RefusedError(error.message);
        log.error({ why: error.message }, "the app refuses this daemon; its runs go on meanwhile");
        await state.sleep(refusedEveryMs);
        continue;
      }
      if (state.failures === 0) log.warn({ why: error.message }, "not connected; trying again");
    }
    await state.backOff(reconnect);
  }
}

async function listen(server: Server, listener: Listener, state: RunningState) {
  const { clock } = state;
  const hearing = new RunningState(clock, state.signal);
  const response = await server.stream(hearing.signal);
  let heardAt = clock.now();
  const watch = async () => {
    while (hearing.running) {
      await hearing.sleep(lookEveryMs);
      if (clock.now() - heardAt > silenceMsMax) hearing.stop();
    }
  };
  const watching = watch();
  const parser = createParser({
    onEvent: ({ data }) => {
      const message = StreamMessage.safeParse(JSON.parse(data));
      if (message.success) listener.heard(message.data);
    },
  });
  const decoder = new TextDecoder();
  try {
    for await (const chunk of response.body ?? []) {
      heardAt = clock.now();
      parser.feed(decoder.decode(chunk as Uint8Array, { stream: true }));
    }
  } catch (error) {
    if (!state.running) return;
    throw new ServerError("unreachable", `the stream broke: ${String(error)}`);
  } finally {
    hearing.stop();
    await watching;
  }
}
