/** sysexits.h, EX_CONFIG. */
export const badSettings = 78;

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
