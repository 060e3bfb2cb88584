import type { CheckRun, Json } from "../objects.ts";
import { appId, slug } from "../state.ts";
import {
  type Answer,
  type Call,
  notFound,
  ok,
  type Route,
  unprocessable,
  type World,
} from "./route.ts";

/** GitHub's limit for summary and text of a check run, in bytes. */
const bytesMax = 65_535;
const annotationsMax = 50;

type Output = { title: string; summary: string; text?: string; annotations?: Json[] };

/** Check runs, with GitHub's own rules. */
export const checks: Route = async (call, world) => {
  const { fullName, route, body } = call;
  const { state } = world;
  const output = body.output as Output | undefined;
  if ((output?.annotations?.length ?? 0) > annotationsMax)
    return unprocessable("No more than 50 annotations");
  for (const text of [output?.summary, output?.text])
    if (text && Buffer.byteLength(text) > bytesMax)
      return unprocessable("Only 65535 characters are allowed");
  if (route === "POST check-runs") return await create(call, world, output);
  const id = Number(/^PATCH check-runs\/(\d+)$/.exec(route)?.[1] ?? 0);
  if (id) {
    const check = state.checks.find((row) => row.id === id && row.repository === fullName);
    return check ? update(check, body, output) : notFound;
  }
  const ref = /^GET commits\/(.+)\/check-runs$/.exec(route)?.[1];
  if (ref) {
    const sha = await state.repositories.resolve(fullName, ref);
    const found = state.checks
      .filter((row) => row.repository === fullName && row.head_sha === sha)
      .reverse();
    return ok({ total_count: found.length, check_runs: found });
  }
  const annotated = Number(/^GET check-runs\/(\d+)\/annotations$/.exec(route)?.[1] ?? 0);
  if (!annotated) return null;
  const check = state.checks.find((row) => row.id === annotated);
  return check ? ok(check.annotations) : notFound;
};

async function create(
  { fullName, body }: Call,
  { state }: World,
  output: Output | undefined,
): Promise<Answer> {
  const sha = String(body.head_sha);
  if (!(await state.repositories.resolve(fullName, sha)))
    return unprocessable("No commit found for SHA");
  const status = body.conclusion ? "completed" : String(body.status ?? "queued");
  const check: CheckRun = {
    id: state.newId(),
    repository: fullName,
    head_sha: sha,
    name: String(body.name),
    external_id: String(body.external_id ?? ""),
    status,
    conclusion: (body.conclusion as string) ?? null,
    details_url: String(body.details_url ?? ""),
    started_at: (body.started_at as string) ?? null,
    completed_at: (body.completed_at as string) ?? null,
    app: { id: appId, name: "Trimo", slug },
    output: {
      title: output?.title ?? "",
      summary: output?.summary ?? "",
      text: output?.text ?? null,
      annotations_count: output?.annotations?.length ?? 0,
    },
    annotations: output?.annotations ?? [],
    actions: (body.actions as CheckRun["actions"]) ?? [],
    history: [status],
  };
  state.checks.push(check);
  return { status: 201, body: check };
}

function update(check: CheckRun, body: Json, output: Output | undefined): Answer {
  const status = body.conclusion ? "completed" : String(body.status ?? check.status);
  if (check.status === "completed" && status !== "completed")
    return unprocessable("A completed check run cannot be reopened");
  check.status = status;
  check.conclusion = (body.conclusion as string) ?? check.conclusion;
  check.started_at = (body.started_at as string) ?? check.started_at;
  check.completed_at = (body.completed_at as string) ?? check.completed_at;
  if (output) {
    const { annotations = [], ...rest } = output;
    // GitHub adds annotations to those it has.
    check.annotations.push(...annotations);
    const annotations_count = check.annotations.length;
    check.output = { ...check.output, ...rest, text: rest.text ?? null, annotations_count };
  }
  check.actions = (body.actions as CheckRun["actions"]) ?? check.actions;
  if (check.history.at(-1) !== status) check.history.push(status);
  return ok(check);
}
