import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { arch, tmpdir } from "node:os";
import { join } from "node:path";

// The npm registry as install-node and install-agent use it: an archive, checked against its integrity,
// unpacked. No npm is needed for that, and no script of a package runs.

/** NPM_CONFIG_REGISTRY names another. */
const registry = (process.env.NPM_CONFIG_REGISTRY ?? "https://registry.npmjs.org").replace(
  /\/$/,
  "",
);
/** Where Debian has tar; the PATH of a build may be anybody's. */
const tar = "/bin/tar";

export type Version = { version: string; dist: { tarball: string; integrity: string } };

/** This machine's processor as npm's packages name it. */
export const cpu = (): string => (arch() === "arm64" ? "arm64" : "x64");

/** The newest version that begins with these numbers and was not taken back. */
export async function newest(name: string, wanted: string): Promise<Version> {
  const { versions } = await packument(name);
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

/** The number that `latest` stands for. */
export async function latest(name: string): Promise<string> {
  const tags = (await packument(name))["dist-tags"];
  if (!tags.latest) throw new Error(`${registry} names no latest ${name}`);
  return tags.latest;
}

/** Exactly this version. */
export async function exactly(name: string, version: string): Promise<Version> {
  return (await get(`${registry}/${name.replace("/", "%2f")}/${version}`).then((answer) =>
    answer.json(),
  )) as Version;
}

async function packument(name: string) {
  const answer = await get(`${registry}/${name.replace("/", "%2f")}`);
  return (await answer.json()) as {
    versions: Record<string, Version>;
    "dist-tags": Record<string, string>;
  };
}

/** Unpacks the members of its archive that are named, or all, below `to`. */
export async function unpack({ dist, version }: Version, to: string, only: string[]) {
  const bytes = Buffer.from(await (await get(dist.tarball)).arrayBuffer());
  const [algorithm = "", expected] = dist.integrity.split("-");
  const actual = createHash(algorithm).update(bytes).digest("base64");
  if (actual !== expected)
    throw new Error(
      `${dist.tarball} is not what it should be for ${version}: its integrity differs`,
    );
  const folder = mkdtempSync(join(tmpdir(), "install-"));
  try {
    writeFileSync(join(folder, "archive.tgz"), bytes);
    mkdirSync(to, { recursive: true });
    const args = ["-xzf", join(folder, "archive.tgz"), "-C", to, "--strip-components=1"];
    execFileSync(tar, [...args, "--no-same-owner", ...only]);
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
