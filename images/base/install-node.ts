import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";

// For Dockerfiles: `RUN /opt/trimo/sbin/install-node 22` puts Node and its npm into /usr/local, from
// the packages node-linux-* and npm of the npm registry, each checked against its integrity there.
// NPM_CONFIG_REGISTRY names another registry.

const registry = (process.env.NPM_CONFIG_REGISTRY ?? "https://registry.npmjs.org").replace(
  /\/$/,
  "",
);
const prefix = process.env.PREFIX ?? "/usr/local";
/** The npm that comes with each Node, by its major version; the newest that runs on it otherwise. */
const npmOf: Record<number, string> = { 18: "10", 20: "10", 22: "10", 24: "11" };

type Version = { version: string; dist: { tarball: string; integrity: string } };

try {
  await install(process.argv[2] ?? "");
} catch (error) {
  process.stderr.write(`install-node: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function install(wanted: string) {
  if (!/^\d+(\.\d+){0,2}$/.test(wanted))
    throw new Error("which version? install-node 22, or 22.3.0");
  const node = await newest(`node-linux-${arch() === "arm64" ? "arm64" : "x64"}`, wanted);
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

/** The newest version that begins with these numbers and was not taken back. */
async function newest(name: string, wanted: string): Promise<Version> {
  const { versions } = (await get(`${registry}/${name}`).then((answer) => answer.json())) as {
    versions: Record<string, Version & { deprecated?: string }>;
  };
  const fits = Object.values(versions).filter(
    ({ version }) =>
      !version.includes("-") && (version === wanted || version.startsWith(`${wanted}.`)),
  );
  const numbers = ({ version }: Version) => version.split(".").map(Number);
  const found = fits.sort((a, b) => {
    const [x, y] = [numbers(a), numbers(b)];
    const at = x.findIndex((number, index) => number !== y[index]);
    return at < 0 ? 0 : (x[at] ?? 0) - (y[at] ?? 0);
  });
  const last = found.at(-1);
  if (!last) throw new Error(`${registry} has no ${name} ${wanted}`);
  return last;
}

async function unpack({ dist, version }: Version, to: string, only: string[]) {
  const bytes = Buffer.from(await (await get(dist.tarball)).arrayBuffer());
  const [algorithm = "", expected] = dist.integrity.split("-");
  const actual = createHash(algorithm).update(bytes).digest("base64");
  if (actual !== expected)
    throw new Error(`${dist.tarball} is not what the registry says of ${version}`);
  const folder = mkdtempSync(join(tmpdir(), "install-node-"));
  try {
    writeFileSync(join(folder, "archive.tgz"), bytes);
    mkdirSync(to, { recursive: true });
    const args = ["-xzf", join(folder, "archive.tgz"), "-C", to, "--strip-components=1"];
    execFileSync("tar", [...args, "--no-same-owner", ...only]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function get(url: string): Promise<Response> {
  const answer = await fetch(url).catch((error) => {
    throw new Error(`${url}: ${String(error.cause ?? error)}`);
  });
  if (!answer.ok) throw new Error(`${url} answers ${answer.status}`);
  return answer;
}
