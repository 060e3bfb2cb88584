import { randomBytes } from "node:crypto";
import { readDatabaseUrl } from "../app/config.ts";
import { enroll, enrollAgain, revoke } from "../app/daemons/enroll.ts";
import { systemClock } from "../app/protocol/clock.ts";
import { allDaemons, busyByDaemon, type Daemon, isHere } from "../app/state/daemon.ts";
import { type Database, openDatabase } from "../app/state/database.ts";
import { randomIds } from "../app/state/identity.ts";
import { createWake } from "../app/state/wake.ts";
import { fail, print } from "./output.ts";

// The machines of an app, by its database: on the app's own machine, whether the app is at work or not.

/** `trimo enroll NAME`: prints the token alone on stdout. `again`: in place of the one the daemon has. */
export async function runEnroll(name: string, account: string | null, again: boolean) {
  const secret = randomBytes(32).toString("base64url");
  if (again && account !== null)
    fail(
      "--again changes the token alone: leave --account out. For another account, revoke the daemon and enrol it anew.",
    );
  const answer = await withDatabase((db) =>
    again ? enrollAgain(db, { name, secret }) : enroll(db, { name, account, secret }),
  );
  if (typeof answer !== "string") fail(answer.problem);
  print(answer);
  if (again)
    process.stderr.write(
      `The token it had is refused from now on. Start ${name} with this one: its runs go on.\n`,
    );
}

/** `trimo revoke NAME`: its token is taken back, its runs end. */
export async function runRevoke(name: string) {
  const answer = await withDatabase((db) => revoke(db, name));
  if (typeof answer !== "number") fail(answer.problem);
  const runs = answer === 1 ? "the run it had is" : `the ${answer} runs it had are`;
  print(`✔ ${name} is revoked${answer > 0 ? `; ${runs} lost, or queued again` : ""}`);
  print("  The GitHub tokens that it was given last an hour at most.");
}

/** `trimo machines`: who is enrolled, and who was heard of lately. */
export async function runMachines({ json }: { json?: boolean }) {
  const { all, busy } = await withDatabase(async ({ read }) => ({
    all: await allDaemons(read),
    busy: await busyByDaemon(read),
  }));
  const rows = all
    .toSorted((a, b) => a.name.localeCompare(b.name))
    .map((daemon) => rowOf(daemon, busy.get(daemon.name) ?? 0));
  if (json) return print(JSON.stringify(rows));
  if (rows.length === 0) return print("No machine is enrolled: `trimo enroll NAME` does it.");
  const width = Math.max(...rows.map(({ name }) => name.length));
  for (const row of rows) print(lineOf(row, width));
}

function rowOf(daemon: Daemon, runs: number) {
  const { name, account, seenAt, version, slots, agents } = daemon;
  const seen = seenAt === null ? null : new Date(seenAt).toISOString();
  const here = isHere(daemon, systemClock.now());
  return { name, here, seen, account, version, slots, runs, agents };
}

function lineOf(row: ReturnType<typeof rowOf>, width: number): string {
  const { name, here, seen, account, version, slots, runs, agents } = row;
  if (seen === null) return `○ ${name.padEnd(width)}  enrolled, never started`;
  const when = here ? "here" : `away since ${seen.slice(0, 16).replace("T", " ")} UTC`;
  const parts = [
    when,
    `${runs} of ${slots} slots taken`,
    ...(agents.length > 0 ? [agents.join(", ")] : []),
    ...(account === null ? [] : [`only ${account}`]),
    `Trimo ${version}`,
  ];
  return `${here ? "●" : "○"} ${name.padEnd(width)}  ${parts.join(" · ")}`;
}

async function withDatabase<T>(work: (db: Database) => Promise<T>): Promise<T> {
  const { url, authToken } = readDatabaseUrl(process.env);
  const parts = { clock: systemClock, ids: randomIds, wake: createWake() };
  const db = await openDatabase({ url, authToken, ...parts });
  try {
    return await work(db);
  } finally {
    db.close();
  }
}
