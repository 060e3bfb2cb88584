import { trimoYmlPath } from "../protocol/trimo-yml.ts";
import { parseTrimoYml, type ReadConfig } from "../text/trimo-yml.ts";
import type { GitHub } from "./app.ts";
import type { Repository } from "./objects.ts";

/** What the default branch's trimo.yml says now; with mistakes nothing of it counts but `commands`. */
export async function readRepositoryConfig(
  github: GitHub,
  { workspace, repository }: { workspace: number; repository: Repository },
): Promise<ReadConfig> {
  const { fullName, defaultBranch } = repository;
  const installation = github.installation(workspace);
  return parseTrimoYml(await installation.file(fullName, trimoYmlPath, defaultBranch));
}
