import { desc, eq } from "drizzle-orm";
import type { Logger } from "pino";
import { type Command, helpTable, needs, parseCommand, visible } from "./command.ts";
import type { Database, Tx } from "./database.ts";
import { logOwn } from "./event.ts";
import type { Commented, GitHub, Labeled } from "./github.ts";
import { newId } from "./identity.ts";
import { requestCancel } from "./lease.ts";
import { want, wantOnce } from "./outbox.ts";
import { allows, type Permissions } from "./permission.ts";
import { findOpen, open, type Pipeline, parseTrimoYml } from "./pipeline.ts";
import type { Clock } from "./protocol/pace.ts";
import { labelIntent, type TrimoYml, trimoYmlPath } from "./protocol/trimo-yml.ts";
import { promptMax } from "./protocol/wire.ts";
import { move, openRuns, type Run, recordCancel, start } from "./run.ts";
import { intents, runs } from "./schema.ts";
import type { Wake } from "./wake.ts";
import { code, plain } from "./wording.ts";

type Parts = {
  db: Database;
  github: GitHub;
  permissions: Permissions;
  clock: Clock;
  wake: Wake;
  log: Logger;
};

/**
 * Turns what people do on GitHub into runs. An intent is stored with its effect under the
 * delivery's number, so a delivery that is handled twice has its effect once.
 */
export function registerIntents(parts: Parts) {
  parts.github.onLabeled((guid, event) => labeled(parts, guid, event));
  parts.github.onComment((guid, event) => commented(parts, guid, event));
}

/** Whose words start nothing: apps, Trimo itself among them. */
const isBot = (sender: { login: string; type: string }) =>
  sender.type === "Bot" || sender.login.endsWith("[bot]");

async function labeled(parts: Parts, guid: string, event: Labeled) {
  const { repository, issue, sender, label } = event;
  if (isBot(sender) || issue.pull_request || issue.state !== "open") return;
  const config = await readTrimoYml(parts, event);
  const intent = labelIntent(label.name, config ?? {});
  if (!intent) return;
  const may = await parts.permissions.of(event.installation.id, repository.full_name, sender.login);
  const place = { kind: "label" as const, event, guid };
  if (!allows(may, "write")) return await refuse(parts, place, may);
  if (!config) return await sayMistakes(parts, place);
  await inOneStep(parts, place, "run", `label ${label.name}`, async (tx, at) => {
    const pipeline = await findOrOpen(tx, at, event, config);
    return await startRun(tx, at, pipeline, {
      agent: intent.agent,
      image: intent.image,
      prompt: issuePrompt(event),
      requestedBy: sender.login,
      trigger: `label ${label.name}`,
    });
  });
  parts.wake.emit("queue");
}

async function commented(parts: Parts, guid: string, event: Commented) {
  const { repository, sender, comment } = event;
  if (isBot(sender)) return;
  const command = parseCommand(comment.body);
  if (!command) return;
  const may = await parts.permissions.of(event.installation.id, repository.full_name, sender.login);
  const place = { kind: "comment" as const, event, guid };
  const need = "problem" in command ? "read" : needs[command.name];
  if (!allows(may, need)) return await refuse(parts, place, may);
  if ("problem" in command) return await answer(parts, place, "misunderstood", command.problem);
  if (command.name === "help") return await answer(parts, place, "help", helpTable());
  if (command.name === "status") return await sayStatus(parts, place);
  if (command.name === "cancel") return await cancel(parts, place);
  await runCommand(parts, place, command);
}

type Place = { kind: "label" | "comment"; event: Labeled | Commented; guid: string };

async function runCommand(parts: Parts, place: Place, command: Command) {
  const event = place.event as Commented;
  const config = await readTrimoYml(parts, event);
  if (!config) return await sayMistakes(parts, place);
  await inOneStep(parts, place, "run", `/trimo ${command.name}`, async (tx, at) => {
    await acknowledge(tx, at, event);
    const onPull = event.issue.pull_request !== undefined;
    const found = await findOpen(tx, event.repository.id, event.issue.number);
    if (!found && (onPull || command.name !== "run")) {
      const reply = onPull
        ? "This pull request is not one of Trimo's pipelines."
        : `There is no run here yet to ${command.name === "retry" ? "repeat" : "build on"}: \`/trimo run\` starts one.`;
      return { reply };
    }
    const pipeline = found ?? (await openFor(tx, at, event, config));
    const last = await lastRun(tx, pipeline);
    const prompt =
      command.name === "retry"
        ? (last?.prompt ?? issuePrompt(event))
        : command.prompt || (onPull ? pipeline.title : issuePrompt(event));
    return await startRun(tx, at, pipeline, {
      agent: command.agent ?? (command.name === "run" ? null : (last?.agent ?? null)),
      image: command.image,
      prompt,
      requestedBy: event.sender.login,
      trigger: `/trimo ${command.name}`,
    });
  });
  parts.wake.emit("queue");
}

async function cancel(parts: Parts, place: Place) {
  const event = place.event as Commented;
  let stopped: Run[] = [];
  await inOneStep(parts, place, "cancel", "/trimo cancel", async (tx, at) => {
    await acknowledge(tx, at, event);
    const pipeline = await findOpen(tx, event.repository.id, event.issue.number);
    stopped = pipeline ? await openRuns(tx, pipeline.id) : [];
    for (const run of stopped) await cancelRun(tx, at, run, event.sender.login);
    return stopped[0] ?? { reply: nothingHere };
  });
  for (const run of stopped) parts.wake.emit("run", run.id);
  for (const run of stopped.filter((r) => r.state !== "queued"))
    parts.wake.emit("cancel", run.daemon ?? "", run.id, run.attempt);
}

const nothingHere = "No run is queued or under way here.";

/** A queued run ends at once; one that somebody holds is asked to stop. */
async function cancelRun(tx: Tx, at: number, run: Run, by: string) {
  if (run.state === "queued") {
    const fact = { type: "ended" as const, state: "cancelled", why: `by ${by}` };
    await move(tx, at, run, "cancelled", { cancelledBy: by }, fact);
    return;
  }
  await recordCancel(tx, run.id, by);
  await requestCancel(tx, run.id);
  await logOwn(tx, run.id, at, { type: "cancel_requested", by });
}

async function sayStatus(parts: Parts, place: Place) {
  const { event } = place;
  const pipeline = await findOpen(parts.db.read, event.repository.id, event.issue.number);
  const live = pipeline ? await openRuns(parts.db.read, pipeline.id) : [];
  const rows = live.map(
    (run) =>
      `- run ${run.number} is ${run.state}${run.stage ? `, at ${run.stage}` : ""}${run.daemon ? `, on ${code(run.daemon)}` : ""}`,
  );
  const text = rows.length > 0 ? rows.join("\n") : nothingHere;
  await answer(parts, place, "status", text);
}

/** Stores the intent and its effect together; a second handling of the delivery does nothing. */
async function inOneStep(
  parts: Parts,
  { kind, event, guid }: Place,
  outcome: "run" | "cancel",
  reason: string,
  work: (tx: Tx, at: number) => Promise<Run | { reply: string }>,
) {
  const at = parts.clock.now();
  await parts.db.write(async (tx) => {
    if (await isKnown(tx, guid)) return;
    const effect = await work(tx, at);
    const said = "reply" in effect ? effect.reply : null;
    if (said !== null) {
      const data = {
        repository: event.repository.full_name,
        issue: event.issue.number,
        body: said,
      };
      await wantOnce(tx, at, event.installation.id, "reply", `answer:${guid}`, data);
    }
    await tx.insert(intents).values({
      key: guid,
      kind,
      repository: event.repository.full_name,
      issue: event.issue.number,
      sender: event.sender.login,
      outcome: said === null ? outcome : "answered",
      reason,
      runId: "id" in effect ? effect.id : null,
      at,
    });
  });
  parts.wake.emit("reports", event.installation.id);
}

async function isKnown(tx: Tx, guid: string): Promise<boolean> {
  const known = await tx.select({ key: intents.key }).from(intents).where(eq(intents.key, guid));
  return known.length > 0;
}

async function startRun(
  tx: Tx,
  at: number,
  pipeline: Pipeline,
  run: Pick<Run, "agent" | "image" | "prompt" | "requestedBy" | "trigger">,
): Promise<Run> {
  return await start(tx, at, {
    ...run,
    prompt: run.prompt.slice(0, promptMax),
    id: newId(),
    pipelineId: pipeline.id,
    workspace: pipeline.workspace,
    repository: pipeline.repository,
  });
}

async function findOrOpen(tx: Tx, at: number, event: Labeled | Commented, config: TrimoYml) {
  const found = await findOpen(tx, event.repository.id, event.issue.number);
  return found ?? (await openFor(tx, at, event, config));
}

async function openFor(tx: Tx, at: number, event: Labeled | Commented, config: TrimoYml) {
  return await open(
    tx,
    at,
    {
      id: newId(),
      workspace: event.installation.id,
      repository: event.repository.full_name,
      repositoryId: event.repository.id,
      issue: event.issue.number,
      title: event.issue.title,
      baseBranch: event.repository.default_branch,
    },
    config,
  );
}

async function lastRun(tx: Tx, pipeline: Pipeline): Promise<Run | null> {
  const [row] = await tx
    .select()
    .from(runs)
    .where(eq(runs.pipelineId, pipeline.id))
    .orderBy(desc(runs.number))
    .limit(1);
  return row ?? null;
}

/** An issue as a prompt; an empty one is its title. */
function issuePrompt({ issue }: Labeled | Commented): string {
  return visible(`${issue.title}\n\n${issue.body ?? ""}`).trim();
}

/** Null when it has mistakes. */
async function readTrimoYml(parts: Parts, event: Labeled | Commented): Promise<TrimoYml | null> {
  const { config, problems } = await fetchTrimoYml(parts, event);
  return problems.length > 0 ? null : config;
}

async function fetchTrimoYml(parts: Parts, { installation, repository }: Labeled | Commented) {
  const workspace = parts.github.workspace(installation.id);
  const text = await workspace.file(repository.full_name, trimoYmlPath, repository.default_branch);
  return parseTrimoYml(text);
}

async function sayMistakes(parts: Parts, place: Place) {
  const { problems } = await fetchTrimoYml(parts, place.event);
  const list = problems.map((problem) => `- ${plain(problem, 300)}`).join("\n");
  await answer(
    parts,
    place,
    "config",
    `No run was started: \`${trimoYmlPath}\` on \`${place.event.repository.default_branch}\` has mistakes.\n\n${list}`,
  );
}

/** One polite sentence, at most once a person, issue and hour. */
async function refuse(parts: Parts, place: Place, may: string) {
  const { event } = place;
  const hour = Math.floor(parts.clock.now() / 3_600_000);
  const subject = `refused:${event.repository.id}:${event.issue.number}:${event.sender.login}:${hour}`;
  const has = may === "none" ? "no permission here" : `${may} permission`;
  const body = `⛔ @${event.sender.login}, starting runs here needs write permission, and you have ${has}. Someone who has it can add the label again, or repeat your words after \`/trimo run\`.`;
  await reply(parts, place, "refused", subject, body);
}

async function answer(parts: Parts, place: Place, reason: string, body: string) {
  await reply(parts, place, "answered", `answer:${place.guid}`, body, reason);
}

async function reply(
  parts: Parts,
  { kind, event, guid }: Place,
  outcome: "refused" | "answered",
  subject: string,
  body: string,
  reason: string = outcome,
) {
  const at = parts.clock.now();
  const data = { repository: event.repository.full_name, issue: event.issue.number, body };
  await parts.db.write(async (tx) => {
    await wantOnce(tx, at, event.installation.id, "reply", subject, data);
    await tx
      .insert(intents)
      .values({
        key: guid,
        kind,
        repository: event.repository.full_name,
        issue: event.issue.number,
        sender: event.sender.login,
        outcome,
        reason,
        runId: null,
        at,
      })
      .onConflictDoNothing();
  });
  parts.wake.emit("reports", event.installation.id);
}

/** 👀 at once, so that the person knows they were heard. */
async function acknowledge(tx: Tx, at: number, event: Commented) {
  await want(tx, at, event.installation.id, "reaction", `eyes:${event.comment.id}`, true, {
    repository: event.repository.full_name,
    comment: event.comment.id,
  });
}
