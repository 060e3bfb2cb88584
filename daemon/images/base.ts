import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { constants, existsSync } from "node:fs";
import {
  access,
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  writeFile,
} from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { systemClock } from "../../app/protocol/clock.ts";
import type { Engine } from "../docker/engine.ts";
import { buildImage } from "./build.ts";
import { folderContext } from "./context.ts";

const run = promisify(execFile);

export const baseImage = "trimo/base:bookworm";
/** The label that says which version of the contract an image follows. */
export const contractLabel = "dev.trimo.contract";
export const contractVersion = "3";
export const sourceLabel = "dev.trimo.source";
/** The private Node of the images, from npm's `node-linux-*` packages; never on the project's PATH. */
const nodeVersion = "24.9.0";
const debian = "debian:bookworm-slim";
const ownDebian = "trimo/debian:bookworm";

type Say = (line: string) => void;

/** Whether the base image is there and made from these very sources. */
export async function isBaseCurrent(engine: Engine): Promise<boolean> {
  const image = await engine.image(baseImage);
  return image?.labels[sourceLabel] === (await sourceHash());
}

/** Builds trimo/base:bookworm; `say` hears each step. Gives what took how long, in milliseconds. */
export async function buildBase(engine: Engine, say: Say): Promise<number> {
  const startedAt = systemClock.now();
  const cpu = (await engine.version()).cpu === "arm64" ? "arm64" : "x64";
  const base = await findDebian(engine, say);
  const context = await mkdtemp(join(tmpdir(), "trimo-base-"));
  try {
    await stage(context, cpu, say);
    say(`building ${baseImage}`);
    const { text, tar } = await folderContext(context, "Dockerfile");
    const recipe = {
      tag: baseImage,
      dockerfile: "Dockerfile",
      text,
      labels: { [sourceLabel]: await sourceHash() },
      args: { BASE: base, ...proxyArgs() },
      platform: null,
      fresh: false,
      limits: null,
    };
    await buildImage(engine, tar(), recipe, () => {}, new AbortController().signal);
  } finally {
    await rm(context, { recursive: true, force: true });
  }
  return systemClock.now() - startedAt;
}

/** The build arguments by which a build gets out of this machine; the engine forgets them afterwards. */
export function proxyArgs(): Record<string, string> {
  const names = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"].flatMap((name) => [
    name,
    name.toLowerCase(),
  ]);
  return Object.fromEntries(
    names.flatMap((name) => (process.env[name] ? [[name, process.env[name]]] : [])),
  );
}

async function stage(context: string, cpu: string, say: Say) {
  const sources = sourcesFolder();
  await mkdir(join(context, "certificates"));
  await mkdir(join(context, "app"));
  // Behind a proxy that inspects TLS a build trusts what this machine trusts.
  const extra = "/usr/local/share/ca-certificates";
  if (existsSync(extra)) await cp(extra, join(context, "certificates"), { recursive: true });
  await writeFile(join(context, "certificates", ".keep"), "");
  for (const name of await sourceFiles()) {
    const to = name === "Dockerfile" ? name : join("app", name);
    await cp(join(sources, name), join(context, to));
  }
  await cp(await privateNode(cpu, say), join(context, "node"));
  await chmod(join(context, "node"), 0o755);
}

/** Debian as it can be had: here already, pulled, or made with debootstrap. */
async function findDebian(engine: Engine, say: Say): Promise<string> {
  if (await engine.image(debian)) return debian;
  if (await engine.image(ownDebian)) return ownDebian;
  say(`pulling ${debian}`);
  if (await pull(engine, debian)) return debian;
  say("no image registry answers: making Debian with debootstrap");
  if (process.getuid?.() !== 0)
    throw new Error(
      `${debian} cannot be pulled, and debootstrap needs root: pull it, or run this as root once.`,
    );
  if (!(await hasCommand("debootstrap"))) {
    say("installing debootstrap");
    await run("apt-get", ["update", "-qq"]);
    await run("apt-get", ["install", "-qq", "-y", "--no-install-recommends", "debootstrap"]);
  }
  const folder = await mkdtemp(join(tmpdir(), "trimo-debian-"));
  try {
    await run("debootstrap", ["--variant=minbase", "bookworm", folder], { maxBuffer: 1 << 26 });
    const apt = join(folder, "etc/apt");
    const mirror = "http://deb.debian.org";
    await writeFile(
      join(apt, "sources.list"),
      `deb ${mirror}/debian bookworm main\ndeb ${mirror}/debian bookworm-updates main\ndeb ${mirror}/debian-security bookworm-security main\n`,
    );
    for (const path of droppedFromDebian)
      await rm(join(folder, path), { recursive: true, force: true });
    await importFolder(engine, folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return ownDebian;
}

/** What Debian's own slim images leave out as well. */
const droppedFromDebian = [
  "var/cache/apt",
  "var/lib/apt/lists",
  "var/log/bootstrap.log",
  ...["doc", "man", "info", "locale", "lintian"].map((name) => `usr/share/${name}`),
];

async function importFolder(engine: Engine, folder: string) {
  const tar = spawn("tar", ["-c", "-C", folder, "."], { stdio: ["ignore", "pipe", "inherit"] });
  await engine.importImage(tar.stdout, ownDebian);
}

async function pull(engine: Engine, name: string): Promise<boolean> {
  try {
    await engine.pullImage(name);
    return true;
  } catch {
    // No registry in reach; the caller has another way.
    return false;
  }
}

/** The binary out of npm's package, whose integrity npm checks; kept for the next build. */
async function privateNode(cpu: string, say: Say): Promise<string> {
  const cache = join(homedir(), ".cache/trimo");
  const kept = join(cache, `node-linux-${cpu}-${nodeVersion}`);
  if (existsSync(kept)) return kept;
  say(`fetching Node ${nodeVersion} for the image`);
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, "fetch-"));
  try {
    const name = `node-linux-${cpu}@${nodeVersion}`;
    const { stdout } = await run("npm", ["pack", "--silent", name], { cwd: folder });
    const archive = stdout.trim().split("\n").at(-1) ?? "";
    await run("tar", ["-xzf", archive, "package/bin/node"], { cwd: folder });
    await rename(join(folder, "package/bin/node"), kept);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return kept;
}

/** An image's size in bytes, with all its layers; null: it is not there. */
export async function imageSize(engine: Engine, name: string): Promise<number | null> {
  return (await engine.image(name))?.sizeBytes ?? null;
}

async function hasCommand(name: string): Promise<boolean> {
  const folders = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`.split(":");
  for (const folder of folders) {
    const found = await access(join(folder, name), constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return true;
  }
  return false;
}

async function sourceHash(): Promise<string> {
  const hash = createHash("sha256").update(nodeVersion);
  for (const name of await sourceFiles())
    hash.update(name).update(await readFile(join(sourcesFolder(), name)));
  return hash.digest("hex").slice(0, 16);
}

async function sourceFiles(): Promise<string[]> {
  return (await readdir(sourcesFolder())).filter((name) => !name.endsWith(".js")).sort();
}

/** `images/base` as sources, also beside a compiled daemon. */
function sourcesFolder(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const found = [join(here, "../../images/base"), join(here, "../../../images/base")].find(
    (folder) => existsSync(join(folder, "Dockerfile")),
  );
  if (!found) throw new Error("images/base is missing from this installation of Trimo");
  return found;
}
