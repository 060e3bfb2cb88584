import { and, eq } from "drizzle-orm";
import type { CheckBody } from "../github/app.ts";
import { trimoYmlPath } from "../protocol/trimo-yml.ts";
import { hashOf } from "../state/database.ts";
import { markTried } from "../state/report.ts";
import { isOver, openRuns, type Run } from "../state/run.ts";
import { checkRuns } from "../state/schema.ts";
import { parseTrimoYml } from "../text/trimo-yml.ts";
import { checkBody, configCheckBody, supersededBody } from "../view/check-body.ts";
import { viewRun } from "../view/run-view.ts";
import { progressAt, type Turn } from "./turn.ts";

/** Between two writes of one check run that only show progress. */
const progress = { leastMs: 3_000, mostMs: 60_000, part: 0.05 };

/** A run's check run on the branch's newest commit, and the end of those on older ones. */
export async function writeCheck(turn: Turn): Promise<number> {
  const { db, report, now, links } = turn;
  const view = await viewRun(db, report.subject, now);
  if (!view || view.pipeline.openingSha === null) return now;
  const { run, pipeline } = view;
  const sha = run.headSha ?? pipeline.headSha;
  if (run.state === "queued" && (await standsBehind(turn, run))) return now;
  // Never on the default branch's own commit: it is not this run's work.
  if (sha && sha !== pipeline.baseSha) {
    const known = await db.read.select().from(checkRuns).where(eq(checkRuns.runId, run.id));
    const details = links.run(run.id);
    for (const old of known.filter((row) => row.sha !== sha && !row.completed))
      await putCheck(turn, run, old.sha, supersededBody(details, sha, now));
    await putCheck(turn, run, sha, checkBody(view, details, now));
  }
  return isOver(run.state) ? now : progressAt(run, now, progress);
}

/** Whether an earlier run of the pipeline still has the branch's check to itself. */
async function standsBehind({ db }: Turn, run: Run): Promise<boolean> {
  const open = await openRuns(db.read, run.pipelineId);
  return open.some((other) => other.number < run.number);
}

async function putCheck({ db, workspace }: Turn, run: Run, sha: string, body: CheckBody) {
  const where = and(eq(checkRuns.runId, run.id), eq(checkRuns.sha, sha));
  const [row] = await db.read.select().from(checkRuns).where(where);
  // A completed check run cannot be reopened, and the same words need not be sent twice.
  const written = hashOf(JSON.stringify(body));
  if (row?.completed || row?.written === written) return;
  const completed = body.status === "completed";
  let remoteId = row?.remoteId ?? null;
  if (remoteId === null && row?.tried)
    remoteId = await workspace.findCheck(run.repository, sha, run.id);
  if (remoteId !== null) await workspace.updateCheck(run.repository, remoteId, body);
  else {
    const tried = { runId: run.id, sha, tried: true };
    await db.write((tx) => tx.insert(checkRuns).values(tried).onConflictDoNothing());
    remoteId = await workspace.createCheck(run.repository, sha, run.id, body);
  }
  const changes = { remoteId, completed, written };
  await db.write((tx) => tx.update(checkRuns).set(changes).where(where));
}

/** Whether trimo.yml is right at a commit that changes it. */
export async function writeConfigCheck(turn: Turn): Promise<number> {
  const { db, workspace, report, now } = turn;
  const { repository, sha, base } = report.data as {
    repository: string;
    sha: string;
    /** The branch it is to go to; null: it is there already. */
    base: string | null;
  };
  const text = await workspace.file(repository, trimoYmlPath, sha);
  // By the file itself: the list of what a pull request changes comes with everybody's lines.
  if (base !== null && text === (await textAtFork(turn, repository, base, sha))) return now;
  const body = configCheckBody(text === null, parseTrimoYml(text).mistakes, now);
  const external = `config:${sha}`;
  const known = report.tried ? await workspace.findCheck(repository, sha, external) : null;
  if (known !== null) return now;
  await markTried(db, report);
  await workspace.createCheck(repository, sha, external, body, "Trimo config");
  return now;
}

/** trimo.yml where a pull request left its base. */
async function textAtFork({ workspace }: Turn, repository: string, base: string, sha: string) {
  const compared = await workspace.compare(repository, base, sha);
  return await workspace.file(repository, trimoYmlPath, compared?.mergeBase ?? base);
}
