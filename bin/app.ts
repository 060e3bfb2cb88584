import { pino } from "pino";
import { readConfig } from "../app/config.ts";
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
