import { readdir, readFile } from "node:fs/promises";
import pg from "pg";

// Brings a database up to the newest of migrations/, in order, each in a transaction of its own.

export async function migrate(url) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query("create table if not exists migrations (name text primary key)");
    const { rows } = await client.query("select name from migrations");
    const done = new Set(rows.map(({ name }) => name));
    const folder = new URL("../migrations/", import.meta.url);
    for (const name of (await readdir(folder)).sort()) {
      if (done.has(name)) continue;
      await client.query("begin");
      await client.query(await readFile(new URL(name, folder), "utf8"));
      await client.query("insert into migrations values ($1)", [name]);
      await client.query("commit");
      console.log(`migrated: ${name}`);
    }
  } finally {
    await client.end();
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) await migrate(process.env.DATABASE_URL);
