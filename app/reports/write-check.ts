import type { CheckBody } from "../github/objects.ts";
import { crashAt } from "../protocol/crash.ts";
import { checkRunsOf, findCheckRun, markCheckTried, recordCheckRun } from "../state/check-run.ts";
import { hashOf } from "../state/identity.ts";
import { isOver, openRuns, type Run } from "../state/run.ts";
import { checkBody, supersededBody } from "../view/check-body.ts";
import { viewRun } from "../view/run-view.ts";
import { done, progressAt, type Turn, type Written } from "./turn.ts";

/** Between two writes of one check run that only show progress. */
const progress = { leastMs: 3_000, mostMs: 60_000, part: 0.05 };

/** Writes a run's check run on the branch's newest commit, and ends those on older ones. */
export async function writeCheck(turn: Turn): Promise<Written> {
  const { db, report, now, links } = turn;
  const view = await viewRun(db.read, report.subject, now);
  if (!view?.pipeline.branchReady) return done(turn);
  const { run, pipeline } = view;
  const sha = run.headSha ?? pipeline.headSha;
  if (run.state === "queued" && (await standsBehind(turn, run))) return done(turn);
  // Never on the default branch's own commit: it is not this run's work.
  if (sha && sha !== pipeline.baseSha) {
    const details = links.run(run.id);
    for (const old of await checkRunsOf(db.read, run.id))
      if (old.sha !== sha && !old.completed)
        await putCheck(turn, run, old.sha, supersededBody(details, sha, now));
    await putCheck(turn, run, sha, checkBody(view, details, now));
  }
  return isOver(run.state) ? done(turn) : progressAt(run, now, progress);
}

/** Whether an earlier run of the pipeline still has the branch's check to itself. */
async function standsBehind({ db }: Turn, run: Run): Promise<boolean> {
  const open = await openRuns(db.read, run.pipelineId);
  return open.some((other) => other.number < run.number);
}

async function putCheck({ db, installation }: Turn, run: Run, sha: string, body: CheckBody) {
  const { id: runId, repository } = run;
  const row = await findCheckRun(db.read, runId, sha);
  // A completed check run cannot be reopened, and the same words need not be sent twice.
  const written = hashOf(JSON.stringify(body));
  if (row?.completed || row?.written === written) return;
  let remoteId = row?.remoteId ?? null;
  if (remoteId === null && row?.tried)
    remoteId = await installation.findCheck(repository, sha, runId);
  if (remoteId !== null) await installation.updateCheck(repository, remoteId, body);
  else {
    await db.write((tx) => markCheckTried(tx, runId, sha));
    crashAt("app: a check run is tried");
    remoteId = await installation.createCheck(repository, { sha, externalId: runId }, body);
  }
  const changes = { remoteId, completed: body.status === "completed", written };
  await db.write((tx) => recordCheckRun(tx, runId, sha, changes));
}
