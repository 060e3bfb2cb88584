import { type Api, type Octokit, split } from "./api.ts";
import type { CheckBody, FailedCheck } from "./objects.ts";

/** The most failed checks of one commit that are read, and the most annotations of each. */
const failedChecksMax = 10;
const annotationsShownMax = 20;

/** Check runs. `repository`: `owner/name`. Every method rejects with GitHubError. */
export type Checks = {
  /** Checks of other apps that failed on a commit, with what they said. */
  failedChecks(repository: string, sha: string): Promise<FailedCheck[]>;
  /** The App's newest check run with this external id on a commit; null: there is none. */
  findCheck(repository: string, sha: string, externalId: string): Promise<number | null>;
  createCheck(
    repository: string,
    check: { sha: string; externalId: string; name?: string },
    body: CheckBody,
  ): Promise<number>;
  updateCheck(repository: string, id: number, body: CheckBody): Promise<void>;
};

/** Check runs through one installation; `appId` says which are the App's own. */
export function createChecks(api: Api, appId: number): Checks {
  return {
    failedChecks: (repository, ref) =>
      api(async (o) => {
        const where = { ...split(repository), ref, per_page: 100, filter: "latest" as const };
        const { data } = await o.rest.checks.listForRef(where);
        const failed = data.check_runs.filter(
          (run) => run.app?.id !== appId && ["failure", "timed_out"].includes(run.conclusion ?? ""),
        );
        const shown = failed.slice(0, failedChecksMax);
        return await Promise.all(shown.map((run) => readFailedCheck(o, repository, run)));
      }),
    findCheck: (repository, sha, externalId) =>
      api(async (o) => {
        const where = { ...split(repository), ref: sha, app_id: appId, per_page: 100 };
        const { data } = await o.rest.checks.listForRef({ ...where, filter: "all" });
        const newestFirst = data.check_runs.filter((run) => run.external_id === externalId);
        return newestFirst[0]?.id ?? null;
      }),
    createCheck: (repository, { sha, externalId, name = "Trimo" }, body) =>
      api(async (o) => {
        const where = { ...split(repository), name, head_sha: sha };
        const sent = { ...where, external_id: externalId, ...checkFields(body) };
        return (await o.rest.checks.create(sent)).data.id;
      }),
    updateCheck: (repository, checkId, body) =>
      api(async (o) => {
        const where = { ...split(repository), check_run_id: checkId };
        await o.rest.checks.update({ ...where, ...checkFields(body) });
      }),
  };
}

type CheckRun = Awaited<
  ReturnType<Octokit["rest"]["checks"]["listForRef"]>
>["data"]["check_runs"][number];

/** A check's own words: its title, summary and text, and the lines it points at. */
async function readFailedCheck(
  o: Octokit,
  repository: string,
  run: CheckRun,
): Promise<FailedCheck> {
  const { title, summary, text, annotations_count } = run.output;
  const parts = [title, summary, text].filter(Boolean);
  if (annotations_count > 0) {
    const where = { ...split(repository), check_run_id: run.id, per_page: annotationsShownMax };
    const { data } = await o.rest.checks.listAnnotations(where);
    for (const one of data) parts.push(`${one.path}:${one.start_line}: ${one.message ?? ""}`);
  }
  return { name: run.name, result: run.conclusion ?? "failure", output: parts.join("\n") };
}

function checkFields(body: CheckBody) {
  return {
    status: body.status,
    ...(body.conclusion ? { conclusion: body.conclusion } : {}),
    ...(body.startedAt ? { started_at: body.startedAt } : {}),
    ...(body.completedAt ? { completed_at: body.completedAt } : {}),
    ...(body.detailsUrl ? { details_url: body.detailsUrl } : {}),
    output: {
      title: body.title,
      summary: body.summary,
      ...(body.text ? { text: body.text } : {}),
      ...(body.annotations && body.annotations.length > 0
        ? {
            annotations: body.annotations.map(({ path, line, message }) => ({
              path,
              start_line: line,
              end_line: line,
              annotation_level: "failure" as const,
              message,
            })),
          }
        : {}),
    },
    ...(body.actions ? { actions: body.actions } : {}),
  };
}
