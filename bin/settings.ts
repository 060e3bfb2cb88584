import { crashSetting } from "../app/protocol/crash.ts";

/** sysexits.h, EX_CONFIG. */
export const badSettings = 78;

/** Ends the process where `TRIMO_CRASH` is set and must not be. */
export function refuseCrash() {
  const setting = crashSetting();
  if (setting === "unset" || setting === "armed") return;
  process.stderr.write(
    setting === "unknown"
      ? "✖ TRIMO_CRASH names no place: app/protocol/crash.ts lists them.\n"
      : "✖ TRIMO_CRASH is set: it ends Trimo on purpose, for its own tests. Unset it.\n",
  );
  process.exit(badSettings);
}

/** Gives the settings that `read` reads; with a SettingsError the process ends, every problem said at once. */
export function settingsOrExit<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    // The app's and the daemon's are two classes.
    if (!(error instanceof Error && "problems" in error)) throw error;
    for (const problem of error.problems as string[]) process.stderr.write(`✖ ${problem}\n`);
    process.exit(badSettings);
  }
}
