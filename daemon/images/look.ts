import type { Engine } from "../docker/engine.ts";
import { baseImage, contractLabel, contractVersion, sourceLabel } from "./base.ts";
import type { Finding } from "./finding.ts";

const layersMax = 8;

/** The image is not on this machine: a sentence with what to do. */
class NoImage extends Error {}

export type About = Awaited<ReturnType<typeof lookAt>>;

/**
 * What can be said of an image without starting it.
 *
 * @throws Error when the image is not on this machine; DockerError.
 */
export async function lookAt(engine: Engine, image: string) {
  const found = await engine.image(image);
  if (!found)
    throw new NoImage(
      `${image} is not on this machine.\n  Build it (trimo image build DIR --tag ${image}) or pull it, then check it again.`,
    );
  const base = await engine.image(baseImage);
  const { os, cpu } = await engine.version();
  const platform = `${found.os}/${found.cpu}`;
  const findings: Finding[] = [];
  if (found.os !== os || found.cpu !== cpu)
    findings.push({
      level: "fail",
      code: "platform",
      what: `It is made for ${platform}; this engine runs ${os}/${cpu}.`,
      fix: `Build it here, or with --platform ${os}/${cpu}.`,
    });
  if (found.labels[contractLabel] !== contractVersion)
    findings.push({
      level: "fail",
      code: "contract",
      what: `It carries no label ${contractLabel}=${contractVersion}, so it is not made on Trimo's base.`,
      fix: `Start its Dockerfile with FROM ${baseImage}; build the base with \`trimo image build\`.`,
    });
  else if (found.labels[sourceLabel] !== base?.labels[sourceLabel])
    findings.push({
      level: "warn",
      code: "old_base",
      what: `It stands on another ${baseImage} than this machine has now.`,
      fix: "Build it again: it gets what the base has learned since.",
    });
  const layers = (await engine.layersOf(image))
    .filter(({ sizeBytes }) => sizeBytes > 0)
    .sort((a, b) => b.sizeBytes - a.sizeBytes)
    .slice(0, layersMax)
    .map(({ sizeBytes, createdBy }) => ({
      bytes: sizeBytes,
      by: createdBy
        .replace(/^\/bin\/sh -c (#\(nop\) *)?/, "")
        .replace(/\s+/g, " ")
        .slice(0, 100),
    }));
  const names = (env: string[]) => env.map((row) => row.split("=")[0] ?? "");
  const known = new Set(names(base?.env ?? []));
  return {
    findings,
    platform,
    layers,
    sizeBytes: found.sizeBytes,
    /** Set by ENV in this image, not by the base. */
    env: names(found.env).filter((name) => !known.has(name) && name !== "PATH"),
    exposed: found.exposed.map((port) => Number.parseInt(port, 10)),
  };
}
