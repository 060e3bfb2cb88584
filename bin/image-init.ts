import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { planImage } from "../daemon/images/init/plan.ts";
import { readProject } from "../daemon/images/init/project.ts";
import { slug } from "./image.ts";
import { print } from "./output.ts";

const trimoYml = ".github/trimo.yml";

/** `trimo image init`: writes a repository's image, and says why it is so. */
export async function runImageInit(
  folder: string | undefined,
  options: { force?: boolean; json?: boolean },
) {
  const root = resolve(folder ?? ".");
  if (!existsSync(root) || !statSync(root).isDirectory())
    throw new Error(`${root} is no folder: name the repository's.`);
  const { files, why, missing } = planImage(readProject(root));
  const own = existsSync(join(root, trimoYml)) && !options.force;
  if (own) {
    delete files[trimoYml];
    if (!/^build:/m.test(readFileSync(join(root, trimoYml), "utf8")))
      missing.push(
        `${trimoYml} is yours and stays: it needs the line \`build: .trimo/Dockerfile\`.`,
      );
  }
  const changed = Object.keys(files).filter(
    (path) =>
      existsSync(join(root, path)) && readFileSync(join(root, path), "utf8") !== files[path],
  );
  if (changed.length > 0 && !options.force)
    throw new Error(
      `${changed.join(", ")} ${changed.length === 1 ? "is" : "are"} here already and would change.\n  Nothing was written. --force writes over ${changed.length === 1 ? "it" : "them"}.`,
    );
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    if (path.endsWith(".sh")) chmodSync(join(root, path), 0o755);
  }
  if (options.json)
    return print(JSON.stringify({ files: Object.keys(files), why, missing }, null, 2));
  for (const path of Object.keys(files)) print(`✔ ${path}`);
  for (const sentence of why) print(`  ${sentence}`);
  for (const sentence of missing) print(`! ${sentence}`);
  print("  A machine builds it for its runs when its daemon.yml has `builds: {}`.");
  print(
    `next: trimo image build ${folder ?? "."} && trimo image check trimo/${slug(basename(root))}:dev`,
  );
}
