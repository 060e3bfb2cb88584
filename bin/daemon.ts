import { readFileSync } from "node:fs";
import { pino } from "pino";
import { type Options, readConfig } from "../daemon/config.ts";
import { StartError, startDaemon } from "../daemon/main.ts";
import { RefusedError } from "../daemon/server/connection.ts";
import { packageFile } from "./package.ts";
import { badSettings, refuseCrash, settingsOrExit } from "./settings.ts";

/** `trimo daemon`: SIGTERM drains, a second one leaves at once. */
export async function runDaemon(options: Options) {
  refuseCrash();
  const config = settingsOrExit(() => readConfig(options, process.env));
  const level = process.env.LOG_LEVEL?.trim() || "info";
  const log = pino({ level }, pino.destination({ fd: 2, sync: true }));
  const { version } = JSON.parse(readFileSync(packageFile("package.json"), "utf8"));
  const daemon = await startDaemon(config, version, log).catch((error) => fail(error, 1));
  let signals = 0;
  const stop = () => {
    signals += 1;
    const going = signals === 1 ? daemon.drain() : daemon.leave();
    void going.then(() => process.exit(0));
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  await daemon.ended.catch((error) => fail(error, badSettings));
}

function fail(error: unknown, code: number): never {
  if (!(error instanceof StartError) && !(error instanceof RefusedError)) throw error;
  process.stderr.write(`✖ ${error.message}\n`);
  process.exit(code);
}
