import { createClient } from "redis";

let client;

/** One connection for all requests. */
export async function redis() {
  client ??= createClient({ url: process.env.REDIS_URL }).connect();
  return await client;
}
