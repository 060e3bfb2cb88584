import { pool } from "./database.js";
import { redis } from "./redis.js";

const key = "notes";
const freshSeconds = 60;

/** All notes, newest first; out of the cache while nobody has added one. */
export async function listNotes() {
  const cache = await redis();
  const known = await cache.get(key);
  if (known) return { notes: JSON.parse(known), cached: true };
  const { rows } = await pool.query("select id, text from notes order by id desc");
  await cache.set(key, JSON.stringify(rows), { EX: freshSeconds });
  return { notes: rows, cached: false };
}

export async function addNote(text) {
  const { rows } = await pool.query("insert into notes (text) values ($1) returning id, text", [
    text,
  ]);
  await (await redis()).del(key);
  return rows[0];
}
