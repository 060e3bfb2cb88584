import { existsSync } from "node:fs";
import { totalmem } from "node:os";
import { basename, join, relative, resolve } from "node:path";
import { connectDocker } from "../daemon/docker/docker-engine.ts";
import { type Engine, imageLabels } from "../daemon/docker/engine.ts";
import { baseImage, buildBase, isBaseCurrent, proxyArgs } from "../daemon/images/base.ts";
import { buildImage } from "../daemon/images/build.ts";
import { type Checked, checkImage } from "../daemon/images/check.ts";
import { folderContext } from "../daemon/images/context.ts";
import { imagesOf } from "../daemon/images/dockerfile.ts";
import { buildAgentImage, installable } from "../daemon/images/with-agents.ts";
import { print } from "./output.ts";

type BuildOptions = {
  tag?: string;
  file?: string;
  platform?: string;
  cache: boolean;
  /** Names with a comma between, each with an optional @VERSION. */
  agent?: string;
  json?: boolean;
};

const folderLabel = "dev.trimo.folder";

/** `trimo image build`: the base image, or a project's. Progress on stderr, the image's name on stdout. */
export async function runImageBuild(folder: string | undefined, options: BuildOptions) {
  const engine = connectDocker();
  if (options.agent) return await buildAgents(engine, folder, options);
  if (!folder) {
    const tookMs = await buildBase(engine, (line) => process.stderr.write(`  ${line}\n`));
    if (options.json) return print(JSON.stringify({ image: baseImage, tookMs }));
    return print(`${baseImage} built in ${(tookMs / 1000).toFixed(1)} s`);
  }
  const root = resolve(folder);
  const dockerfile = dockerfileOf(root, options.file);
  const context = await folderContext(root, dockerfile);
  if (imagesOf(context.text).images.includes(baseImage) && !(await isBaseCurrent(engine))) {
    process.stderr.write(`  ${baseImage} is missing or old: building it first\n`);
    await buildBase(engine, (line) => process.stderr.write(`  ${line}\n`));
  }
  const tag = options.tag ?? `trimo/${slug(basename(root))}:dev`;
  const before = (await imageLabels(engine, tag))?.[folderLabel];
  if (before && before !== root)
    process.stderr.write(
      `! ${tag} was built from ${before} until now; that image loses its name\n`,
    );
  const startedAt = Date.now();
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort(new Error("stopped: nothing was tagged")));
  const recipe = {
    tag,
    dockerfile,
    text: context.text,
    labels: { [folderLabel]: root },
    args: proxyArgs(),
    platform: options.platform ?? null,
    fresh: !options.cache,
    limits: null,
  };
  const built = await buildImage(
    engine,
    context.tar(),
    recipe,
    ({ step, steps, text }) =>
      process.stderr.write(`  step ${step} of ${steps}  ${text.slice(0, 120)}\n`),
    stop.signal,
  );
  const tookMs = Date.now() - startedAt;
  if (options.json) return print(JSON.stringify({ image: tag, tookMs, ...built }));
  print(
    `${tag} built in ${(tookMs / 1000).toFixed(1)} s, ${built.cached} of ${built.steps} steps from the cache`,
  );
  process.stderr.write(`  next: trimo image check ${tag}\n`);
}

/** `--agent claude,codex`: the base with these agents. */
async function buildAgents(engine: Engine, folder: string | undefined, options: BuildOptions) {
  if (folder)
    throw new Error(
      "--agent makes an image of the base alone.\n  In your own Dockerfile it is a line: RUN /opt/trimo/sbin/install-agent claude",
    );
  const agents = (options.agent ?? "").split(",").filter(Boolean);
  const wrong = agents.find((agent) => !/^[a-z]+(@[\w.+-]+)?$/.test(agent) || !isKnown(agent));
  if (wrong !== undefined || agents.length === 0)
    throw new Error(
      `"${wrong ?? ""}" is no agent that Trimo installs.\n  There are ${installable.join(", ")}, each with an optional @VERSION.`,
    );
  const say = (line: string) => void process.stderr.write(`  ${line}\n`);
  if (!(await isBaseCurrent(engine))) await buildBase(engine, say);
  const startedAt = Date.now();
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort(new Error("stopped: nothing was tagged")));
  const how = {
    tag: options.tag,
    platform: options.platform,
    ...(options.cache ? {} : { fresh: true }),
  };
  const image = await buildAgentImage(engine, agents, how, say, stop.signal);
  const tookMs = Date.now() - startedAt;
  if (options.json) return print(JSON.stringify({ image, tookMs }));
  print(`${image} built in ${(tookMs / 1000).toFixed(1)} s`);
  process.stderr.write(`  next: trimo image check ${image}\n`);
}

const isKnown = (agent: string): boolean =>
  (installable as readonly string[]).includes(agent.split("@")[0] ?? "");

/** Named, or where `image init` puts it, or where everybody has it. */
function dockerfileOf(root: string, file: string | undefined): string {
  if (file) return relative(root, resolve(file));
  const found = [".trimo/Dockerfile", "Dockerfile"].find((name) => existsSync(join(root, name)));
  if (!found)
    throw new Error(
      `${root} has neither .trimo/Dockerfile nor Dockerfile.\n  Name one with --file, or let \`trimo image init ${root}\` write one.`,
    );
  return found;
}

/** A folder's name as an image's. */
export function slug(name: string): string {
  return (
    name
      .toLowerCase()
      .replace(/[^a-z0-9]+/g, "-")
      .replace(/^-|-$/g, "") || "project"
  );
}

type CheckFlags = { json?: boolean; memory?: string; prebootSeconds?: string };

/** `trimo image check`: exit 1 when a run would fail. */
export async function runImageCheck(image: string, options: CheckFlags) {
  const prebootSeconds = Number(options.prebootSeconds ?? 300);
  if (!Number.isInteger(prebootSeconds) || prebootSeconds < 1)
    throw new Error(
      `--preboot-seconds is "${options.prebootSeconds}": it must be a whole number from 1.`,
    );
  const memoryBytes = Math.min(4 * 2 ** 30, Math.floor(totalmem() / 2));
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort(new Error("stopped: nothing is left of the check")));
  const limits = { cpus: 2, memoryBytes, prebootSeconds };
  const checked = await checkImage(connectDocker(), image, limits, stop.signal);
  if (options.json) print(JSON.stringify(checked, null, 2));
  else for (const line of reportOf(checked)) print(line);
  if (!checked.ok) process.exitCode = 1;
}

function reportOf(checked: Checked): string[] {
  const { findings, services, layers } = checked;
  const seconds = (ms: number | null) => (ms === null ? "–" : `${(ms / 1000).toFixed(1)} s`);
  const list = services.map(({ name, readyMs }) => `${name} ${seconds(readyMs)}`).join(", ");
  const started = checked.startedMs !== null && checked.readyMs !== null;
  return [
    `${checked.image} · ${megabytes(checked.sizeBytes)} · ${checked.platform}`,
    ...(started
      ? [
          `✔ container up after ${seconds(checked.startedMs)}, agent ready after ${seconds(checked.readyMs)}`,
          `✔ preboot took ${seconds(checked.prebootMs)}${list ? `: ${list}` : ""}`,
        ]
      : []),
    ...(checked.ports.length > 0 ? [`✔ ports that answer: ${checked.ports.join(", ")}`] : []),
    ...(checked.agents.length > 0
      ? [
          `✔ agents: ${checked.agents.map(({ name, version }) => `${name} ${version || "?"}`).join(", ")}`,
        ]
      : []),
    ...findings.flatMap(({ level, what, fix }) => [
      `${level === "fail" ? "✖" : "!"} ${what.replaceAll("\n", "\n  ")}`,
      `  → ${fix}`,
    ]),
    "  layers, largest first:",
    ...layers.map(({ bytes, by }) => `  ${megabytes(bytes).padStart(8)}  ${by}`),
    checked.ok ? "A run can use it." : "A run would fail with it.",
  ];
}

const megabytes = (bytes: number): string => `${Math.round(bytes / 1e6)} MB`;
