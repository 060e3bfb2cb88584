import { mkdirSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { cpu, newest, unpack } from "./registry.ts";

// For Dockerfiles: `RUN /opt/trimo/sbin/install-node 22` puts Node and its npm into /usr/local, from
// the packages node-linux-* and npm of the npm registry, each checked against its integrity there.

const prefix = process.env.PREFIX ?? "/usr/local";
/** The npm that comes with each Node, by its major version; the newest that runs on it otherwise. */
const npmOf: Record<number, string> = { 18: "10", 20: "10", 22: "10", 24: "11" };

try {
  await install(process.argv[2] ?? "");
} catch (error) {
  process.stderr.write(`install-node: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function install(wanted: string) {
  if (!/^\d+(\.\d+){0,2}$/.test(wanted))
    throw new Error("which version? install-node 22, or 22.3.0");
  const node = await newest(`node-linux-${cpu()}`, wanted);
  const npm = await newest("npm", npmOf[Number(node.version.split(".")[0])] ?? "11");
  for (const name of ["bin", "lib/node_modules", "include", "share"])
    mkdirSync(join(prefix, name), { recursive: true });
  await unpack(node, prefix, ["package/bin/node"]);
  await unpack(npm, join(prefix, "lib/node_modules/npm"), []);
  for (const name of ["npm", "npx"]) {
    rmSync(join(prefix, "bin", name), { force: true });
    symlinkSync(`../lib/node_modules/npm/bin/${name}-cli.js`, join(prefix, "bin", name));
  }
  process.stdout.write(`Node ${node.version} and npm ${npm.version} are in ${prefix}\n`);
}
