import type { Docker } from "../docker/container.ts";
import { baseImage, contractLabel, contractVersion, sourceLabel } from "./base.ts";
import type { Finding } from "./finding.ts";

const layersMax = 8;

/** The image is not on this machine: a sentence with what to do. */
class NoImage extends Error {}

export type About = Awaited<ReturnType<typeof lookAt>>;

/** What can be said without starting it. */
export async function lookAt(docker: Docker, image: string) {
  const found = await docker
    .getImage(image)
    .inspect()
    .catch((error: { statusCode?: number }) => {
      if (error.statusCode !== 404) throw error;
      throw new NoImage(
        `${image} is not on this machine.\n  Build it (trimo image build DIR --tag ${image}) or pull it, then check it again.`,
      );
    });
  const base = await docker
    .getImage(baseImage)
    .inspect()
    .catch(() => null);
  const engine = await docker.version();
  const platform = `${found.Os}/${found.Architecture}`;
  const findings: Finding[] = [];
  if (found.Os !== engine.Os || found.Architecture !== engine.Arch)
    findings.push({
      level: "fail",
      code: "platform",
      what: `It is made for ${platform}; this engine runs ${engine.Os}/${engine.Arch}.`,
      fix: `Build it here, or with --platform ${engine.Os}/${engine.Arch}.`,
    });
  if (found.Config.Labels?.[contractLabel] !== contractVersion)
    findings.push({
      level: "fail",
      code: "contract",
      what: `It carries no label ${contractLabel}=${contractVersion}, so it is not made on Trimo's base.`,
      fix: `Start its Dockerfile with FROM ${baseImage}; build the base with \`trimo image build\`.`,
    });
  else if (found.Config.Labels?.[sourceLabel] !== base?.Config.Labels?.[sourceLabel])
    findings.push({
      level: "warn",
      code: "old_base",
      what: `It stands on another ${baseImage} than this machine has now.`,
      fix: "Build it again: it gets what the base has learned since.",
    });
  const history = await docker.getImage(image).history();
  const layers = (history as { Size: number; CreatedBy: string }[])
    .filter(({ Size }) => Size > 0)
    .sort((a, b) => b.Size - a.Size)
    .slice(0, layersMax)
    .map(({ Size, CreatedBy }) => ({
      bytes: Size,
      by: CreatedBy.replace(/^\/bin\/sh -c (#\(nop\) *)?/, "")
        .replace(/\s+/g, " ")
        .slice(0, 100),
    }));
  const names = (env: string[] | undefined) => (env ?? []).map((row) => row.split("=")[0] ?? "");
  const known = new Set(names(base?.Config.Env));
  return {
    findings,
    platform,
    layers,
    sizeBytes: found.Size,
    /** Set by ENV in this image, not by the base. */
    env: names(found.Config.Env).filter((name) => !known.has(name) && name !== "PATH"),
    exposed: Object.keys(found.Config.ExposedPorts ?? {}).map((port) => Number.parseInt(port, 10)),
  };
}
