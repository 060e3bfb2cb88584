import { execFileSync } from "node:child_process";
import { appendFileSync, cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connectDocker } from "../../daemon/docker/docker-engine.ts";
import { baseImage, imageSize, proxyArgs } from "../../daemon/images/base.ts";
import { buildImage } from "../../daemon/images/build.ts";
import { checkImage } from "../../daemon/images/check.ts";
import { folderContext } from "../../daemon/images/context.ts";
import { docker } from "../support/rig.ts";

// What an image costs. Time until the agent starts (container, tunnel, clone, preboot) for the base,
// which is the floor, for each example, and for one example with Debian's service scripts in its
// preboot, the way it is usually done; all in the same rounds. Then the rebuild after a change of one
// line, beside `docker build` of the same; and sizes, beside Debian's.

const examples = ["nextjs-postgres-redis", "django-postgres-celery", "go-postgres-elasticsearch"];
const folderOf = (name: string) =>
  fileURLToPath(new URL(`../../images/examples/${name}`, import.meta.url));
const options = { cpus: 2, memoryBytes: 2 ** 31, prebootSeconds: 120 };
const label = "dev.trimo.bench";
const usual = "trimo/bench-usual:dev";
const usualDockerfile = `FROM trimo/bench-${examples[0]}:dev
RUN printf '%s\\n' '#!/bin/sh' 'service postgresql start' 'service redis-server start' > /opt/trimo/preboot.sh
`;

export async function benchImage(rounds: number) {
  const engine = connectDocker();
  const made = mkdtempSync(join(tmpdir(), "trimo-bench-"));
  const tags = examples.map((name) => `trimo/bench-${name}:dev`);
  try {
    for (const name of examples) {
      process.stderr.write(`· building ${name}\n`);
      cpSync(folderOf(name), join(made, name), { recursive: true });
      await build(join(made, name), `trimo/bench-${name}:dev`);
    }
    docker("build", "-q", "-t", usual, folderWith(made, usualDockerfile));
    const ready = new Map<string, number[]>();
    const services = new Map<string, string>();
    for (let round = 0; round <= rounds; round++) {
      process.stderr.write(round === 0 ? "· warming up\n" : `· round ${round} of ${rounds}\n`);
      for (const image of [baseImage, ...tags, usual]) {
        const checked = await checkImage(engine, image, options, new AbortController().signal);
        if (!checked.ok) throw new Error(`${image}: ${JSON.stringify(checked.findings)}`);
        if (round === 0) continue;
        ready.set(image, [...(ready.get(image) ?? []), checked.readyMs ?? 0]);
        const list = checked.services.map(({ name, readyMs }) => `${name} ${readyMs}`).join(", ");
        services.set(image, list);
      }
    }
    const rebuilt = await rebuilds(join(made, examples[0] ?? ""), rounds);
    const sizes = await Promise.all(
      [baseImage, ...tags].map(async (image) => ({
        image,
        bytes: (await imageSize(engine, image)) ?? 0,
      })),
    );
    const debian =
      (await imageSize(engine, "debian:bookworm-slim")) ??
      (await imageSize(engine, "trimo/debian:bookworm"));
    print(rounds, ready, services, rebuilt, sizes, debian ?? 0);
  } finally {
    rmSync(made, { recursive: true });
    docker("rmi", "-f", ...tags, usual);
    docker("image", "prune", "-f", "--filter", `label=${label}`);
  }
}

function folderWith(made: string, dockerfile: string): string {
  const folder = mkdtempSync(join(made, "usual-"));
  writeFileSync(join(folder, "Dockerfile"), dockerfile);
  return folder;
}

async function build(folder: string, tag: string) {
  const dockerfile = ".trimo/Dockerfile";
  const context = await folderContext(folder, dockerfile);
  const recipe = {
    tag,
    dockerfile,
    text: context.text,
    labels: { [label]: "1" },
    args: proxyArgs(),
    platform: null,
    fresh: false,
    limits: null,
  };
  const never = new AbortController().signal;
  await buildImage(connectDocker(), context.tar(), recipe, () => {}, never);
}

/** One line of environment.sh changes before each; ours and Docker's own client take turns. */
async function rebuilds(folder: string, rounds: number) {
  const times = { ours: [] as number[], docker: [] as number[] };
  const change = (n: number) =>
    appendFileSync(join(folder, ".trimo/environment.sh"), `export CHANGE=${n}\n`);
  for (let round = 0; round < rounds; round++) {
    change(round * 2);
    let at = performance.now();
    await build(folder, `trimo/bench-${examples[0]}:dev`);
    times.ours.push(performance.now() - at);
    change(round * 2 + 1);
    at = performance.now();
    const args = [
      "build",
      "-q",
      "--label",
      `${label}=1`,
      "-f",
      join(folder, ".trimo/Dockerfile"),
      "-t",
      `trimo/bench-${examples[0]}:dev`,
      folder,
    ];
    execFileSync("docker", args, { stdio: "ignore" });
    times.docker.push(performance.now() - at);
  }
  return times;
}

const median = (list: number[]): number =>
  [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0;

function print(
  rounds: number,
  ready: Map<string, number[]>,
  services: Map<string, string>,
  rebuilt: { ours: number[]; docker: number[] },
  sizes: { image: string; bytes: number }[],
  debian: number,
) {
  const floor = median(ready.get(baseImage) ?? []);
  const rows = [...ready].map(([image, list]) => ({ image, readyMs: Math.round(median(list)) }));
  const line = (...cells: (string | number)[]) =>
    process.stdout.write(
      `${cells.map((cell, i) => (i === 0 ? String(cell).padEnd(44) : String(cell).padStart(10))).join("")}\n`,
    );
  line(`agent starts after (median of ${rounds})`, "ms", "+ floor");
  for (const { image, readyMs } of rows)
    line(
      image === usual ? "the first, with Debian's service scripts" : image,
      readyMs,
      `+${Math.round(readyMs - floor)}`,
    );
  for (const [image, list] of services) if (list) line(`  ${image}`, `  ${list}`);
  line("rebuild after a change of one line", "ms");
  line("  trimo", Math.round(median(rebuilt.ours)));
  line("  docker build", Math.round(median(rebuilt.docker)));
  line("size", "MB");
  line("  Debian alone", Math.round(debian / 1e6));
  for (const { image, bytes } of sizes) line(`  ${image}`, Math.round(bytes / 1e6));
  const result = {
    bench: "image",
    rounds,
    ready: rows,
    rebuildMs: { ours: median(rebuilt.ours), docker: median(rebuilt.docker) },
    sizes,
    debian,
  };
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
