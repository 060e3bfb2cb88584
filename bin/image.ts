import { connectDocker } from "../daemon/container.ts";
import { baseImage, buildBase } from "../daemon/image.ts";

/** `trimo image build`: the base image. */
export async function runImageBuild() {
  const tookMs = await buildBase(connectDocker(), (line) => process.stderr.write(`  ${line}\n`));
  process.stdout.write(`${baseImage} built in ${(tookMs / 1000).toFixed(1)} s\n`);
}
