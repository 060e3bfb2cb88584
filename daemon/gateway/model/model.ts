import { type Dispatcher, EnvHttpProxyAgent } from "undici";
import type { Clock } from "../../../app/protocol/clock.ts";
import type { Fact } from "../../../app/protocol/event.ts";
import type { FailureCode } from "../../../app/protocol/failure.ts";
import type { Api } from "../../agent-settings.ts";
import type { Credential } from "../credential.ts";
import type { Connection } from "../egress.ts";
import type { Meter } from "../meter.ts";

export type LimitHit = { code: FailureCode; text: string; resetAt: number | null };

export type ModelSettings = {
  name: string;
  api: Api;
  /** Without a slash at its end. */
  baseUrl: string;
  timeoutMs: number;
  /** How long nothing but failures is put up with: the agents retry by themselves, some without end. */
  patienceMs: number;
};

export type Model = ReturnType<typeof createModel>;

type ModelParts = {
  settings: ModelSettings;
  credential: Credential;
  meter: Meter;
  secrets: Set<string>;
  clock: Clock;
  /** The connections to models, shared by all runs; see `openPool`. */
  pool: Dispatcher;
  on: {
    fact: (fact: Fact) => void;
    connection: (connection: Connection) => void;
    /** Called once, when the agent is to be ended: more requests would lead nowhere. */
    limitHit: (limit: LimitHit) => void;
  };
};

/** Connections to models for all runs of a daemon; a proxy of this machine's environment is gone through. */
export const openPool = (): Dispatcher => new EnvHttpProxyAgent({ connections: 64, pipelining: 1 });

/** The one model of a run, as its gateway serves it; nothing is asked of it yet. */
export function createModel(parts: ModelParts) {
  return {
    ...parts,
    /** Requests that were answered, well or not. */
    answered: 0,
    failing: null as null | { since: number; count: number; limit: LimitHit },
    ended: null as LimitHit | null,
    /** Another key was found for one that was refused. */
    renewed: false,
  };
}
