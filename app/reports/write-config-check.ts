import { trimoYmlPath } from "../protocol/trimo-yml.ts";
import { markTried, type WantedOf } from "../state/report.ts";
import { parseTrimoYml } from "../text/trimo-yml.ts";
import { configCheckBody } from "../view/check-body.ts";
import { done, type Turn, type Written } from "./turn.ts";

const checkName = "Trimo config";

/** Writes a check of trimo.yml at a commit that changes it. */
export async function writeConfigCheck(turn: Turn): Promise<Written> {
  const { db, installation, report, now } = turn;
  const wanted = report.wanted as WantedOf<"config">;
  const { repository, sha } = wanted;
  const text = await installation.file(repository, trimoYmlPath, sha);
  // By the file itself: the list of what a pull request changes comes with everybody's lines.
  if (wanted.base !== null && text === (await textAtFork(turn, wanted, wanted.base)))
    return done(turn);
  const body = configCheckBody(text === null, parseTrimoYml(text).mistakes, now);
  const externalId = `config:${sha}`;
  const known =
    report.triedAt === null ? null : await installation.findCheck(repository, sha, externalId);
  if (known !== null) return done(turn);
  await db.write((tx) => markTried(tx, report));
  await installation.createCheck(repository, { sha, externalId, name: checkName }, body);
  return done(turn);
}

/** trimo.yml where a pull request left its base; null: there was none. */
async function textAtFork(
  { installation }: Turn,
  { repository, sha }: WantedOf<"config">,
  base: string,
): Promise<string | null> {
  const compared = await installation.compare(repository, base, sha);
  return await installation.file(repository, trimoYmlPath, compared?.mergeBase ?? base);
}
