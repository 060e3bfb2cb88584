import { randomBytes } from "node:crypto";
import { pino } from "pino";
import { readConfig, readDatabaseUrl } from "../app/config.ts";
import { systemClock } from "../app/protocol/clock.ts";
import { badSettings, refuseCrash, settingsOrExit } from "./settings.ts";

/** `trimo app`: runs the app until SIGTERM or SIGINT. */
export async function runApp() {
  refuseCrash();
  const config = settingsOrExit(() => readConfig(process.env));
  const { startApp } = await import("../app/main.ts");
  const log = pino({ level: config.logLevel }, pino.destination({ fd: 2, sync: true }));
  const app = await startApp(config, log).catch((error) => {
    if (error?.code !== "EADDRINUSE") throw error;
    process.stderr.write(`✖ Port ${config.port} is taken: set PORT to a free one.\n`);
    process.exit(badSettings);
  });
  // A probe may need the port when PORT=0 was asked for.
  process.stdout.write(`http://${config.host}:${app.port}\n`);
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.once(signal, () => void app.stop().then(() => process.exit(0)));
}

/** `trimo enroll NAME`: prints the token alone on stdout. */
export async function runEnroll(name: string, account: string | null) {
  const { openDatabase } = await import("../app/state/database.ts");
  const { randomIds } = await import("../app/state/identity.ts");
  const { createWake } = await import("../app/state/wake.ts");
  const { enroll } = await import("../app/daemons/enroll.ts");
  const { url, authToken } = readDatabaseUrl(process.env);
  const parts = { clock: systemClock, ids: randomIds, wake: createWake() };
  const db = await openDatabase({ url, authToken, ...parts });
  const secret = randomBytes(32).toString("base64url");
  const answer = await enroll(db, { name, account, secret });
  db.close();
  if (typeof answer === "string") {
    process.stdout.write(`${answer}\n`);
    return;
  }
  process.stderr.write(`✖ ${answer.problem}\n`);
  process.exitCode = 1;
}
