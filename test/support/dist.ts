import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

/**
 * Builds `dist` from the sources as they are, so that nothing older is measured.
 *
 * @throws Error when it does not build; the compiler has said why.
 */
export function buildDist() {
  const cwd = fileURLToPath(new URL("../..", import.meta.url));
  const { status } = spawnSync("npm", ["run", "--silent", "build"], { cwd, stdio: "inherit" });
  if (status !== 0) throw new Error("npm run build failed");
}
