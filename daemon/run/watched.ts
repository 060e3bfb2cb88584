import type { Logger } from "pino";
import type { Clock } from "../../app/protocol/clock.ts";
import type { Reader } from "../agents/adapter.ts";
import type { Config } from "../config.ts";
import type { Disk } from "../disk.ts";
import type { Carrier, Engine } from "../docker/engine.ts";
import type { Connection } from "../gateway/egress.ts";
import type { Endpoints } from "../gateway/gateway.ts";
import type { Meter } from "../gateway/meter.ts";
import type { Pusher } from "../repository/pusher.ts";
import type { Outbox } from "../server/outbox.ts";
import type { Plan } from "./run-record.ts";
import type { Signals } from "./signals.ts";

export const tailChars = 3_500;

export type Watched = {
  config: Pick<Config, "egress" | "github">;
  disk: Disk;
  clock: Clock;
  log: Logger;
  folder: string;
  outbox: Outbox;
  secrets: Set<string>;
  signals: Pick<Signals, "stop" | "abandon" | "leave" | "over">;
  engine: Engine;
  container: string;
  /** The tunnel's process, when it was begun with the container; null: there is none yet. */
  carrier: Promise<Carrier | null> | null;
  /** What the container finds behind its gateway. */
  endpoints: Endpoints;
  plan: Plan;
  reader: Reader;
  /** The agent's session could not be put back: it begins one. */
  onSessionLost: () => void;
  meter: Meter;
  /** Attempts to reach the web, told once each. */
  connection: (connection: Connection) => void;
  pusher: Pusher;
};
