import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

type Statement = { columns(): unknown; raw(raw?: boolean): unknown };
type Connection = { prepare(sql: string): Statement };

/** Whether statements are kept already. */
let kept = false;

/**
 * Keeps the statements that libsql has prepared, for each connection: its client prepares one for every
 * query anew, which takes half of a simulation's time. Changes libsql in this whole process.
 */
export function keepPrepared() {
  if (kept) return;
  kept = true;
  // The engine below @libsql/client, which does not export it.
  const near = createRequire(fileURLToPath(import.meta.resolve("@libsql/client/sqlite3")));
  const { prototype } = near("libsql") as { prototype: Connection };
  const prepare = prototype.prepare;
  const known = new WeakMap<Connection, Map<string, Statement>>();
  prototype.prepare = function (sql) {
    // What changes tables or begins something makes statements stale, or is stateful.
    if (!/^\s*(select|insert|update|delete)\b/i.test(sql)) return prepare.call(this, sql);
    const all = known.get(this) ?? new Map<string, Statement>();
    known.set(this, all);
    const before = all.get(sql);
    if (before) return before;
    const statement = prepare.call(this, sql);
    keepColumns(statement);
    all.set(sql, statement);
    return statement;
  };
}

function keepColumns(statement: Statement) {
  const read = statement.columns.bind(statement);
  let columns: unknown;
  statement.columns = () => {
    columns ??= read();
    return columns;
  };
}
