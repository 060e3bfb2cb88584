import { randomUUID } from "node:crypto";
import { redis } from "./redis.js";

const daySeconds = 86_400;

/** Counts the visits of a session; one that Redis does not know begins anew. */
export async function visit(id) {
  const store = await redis();
  const known = id && (await store.exists(`session:${id}`));
  const session = known ? id : randomUUID();
  const visits = await store.incr(`session:${session}`);
  await store.expire(`session:${session}`, daySeconds);
  return { id: session, visits };
}
