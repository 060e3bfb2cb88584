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

/** `limitHit` is called once, when the agent is to be ended: more requests would lead nowhere. */
export function createModel(
  settings: ModelSettings,
  credential: Credential,
  meter: Meter,
  secrets: Set<string>,
  clock: Clock,
  on: {
    fact: (fact: Fact) => void;
    connection: (connection: Connection) => void;
    limitHit: (limit: LimitHit) => void;
  },
) {
  return {
    settings,
    credential,
    meter,
    secrets,
    clock,
    on,
    /** Requests that were answered, well or not. */
    answered: 0,
    failing: null as null | { since: number; count: number; limit: LimitHit },
    ended: null as LimitHit | null,
    /** Another key was found for one that was refused. */
    renewed: false,
  };
}
