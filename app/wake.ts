import { EventEmitter } from "node:events";

/**
 * Wakes those who wait, inside this process. A wake carries no truth: whoever wakes reads the
 * database, and every waiter also looks by itself at its own pace, so a lost wake only delays.
 */
type Wakes = {
  deliveries: [];
  queue: [];
  reports: [workspace: number];
  run: [runId: string];
  cancel: [daemonId: string, runId: string, attempt: number];
};

export type Wake = EventEmitter<Wakes>;

export function createWake(): Wake {
  return new EventEmitter<Wakes>().setMaxListeners(0);
}
