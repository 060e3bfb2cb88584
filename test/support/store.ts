import { type Clock, systemClock } from "../../app/protocol/clock.ts";
import { type Database, openDatabase } from "../../app/state/database.ts";
import { randomIds } from "../../app/state/identity.ts";
import { createWake } from "../../app/state/wake.ts";

/** Opens an app's database beside the app, to look at it or to move its time on. */
export async function openStore(path: string, clock: Clock = systemClock): Promise<Database> {
  return await openDatabase({
    url: `file:${path}`,
    authToken: undefined,
    clock,
    ids: randomIds,
    wake: createWake(),
  });
}
