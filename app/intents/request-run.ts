import { desc, eq } from "drizzle-orm";
import { cancelRuns, wakeStopped } from "../dispatch/cancel.ts";
import { isContinuation } from "../dispatch/continuation.ts";
import { agentsFor } from "../dispatch/queue.ts";
import { allows } from "../github/permission.ts";
import {
  type CiOver,
  type Happening,
  type Issue,
  isBot,
  type Labeled,
  type Pressed,
  readPayload,
  type Said,
} from "../inbound/payload.ts";
import { continueRequest, fixRequest, spotText } from "../prompt/compose.ts";
import { BranchName } from "../protocol/names.ts";
import {
  agentsOf,
  holdLabel,
  labelIntent,
  type Mistake,
  nowLabel,
  type TrimoYml,
} from "../protocol/trimo-yml.ts";
import { promptMax, type Stage, tellMax } from "../protocol/wire.ts";
import { hashOf, type Tx } from "../state/database.ts";
import { newId } from "../state/identity.ts";
import {
  adopt,
  findByBranch,
  findOpen,
  findPipeline,
  hadPipeline,
  open,
  type Pipeline,
  record,
} from "../state/pipeline.ts";
import { want } from "../state/report.ts";
import {
  findRun,
  openRuns,
  type Run,
  recordPriority,
  start,
  wantPlaces,
  wantShown,
} from "../state/run.ts";
import { runs } from "../state/schema.ts";
import { addTell } from "../state/tell.ts";
import {
  type Command,
  type CommandName,
  helpTable,
  needOf,
  parseCommand,
} from "../text/command.ts";
import { visible } from "../text/mention.ts";
import { readConfig, sayMistakes } from "../text/trimo-yml.ts";
import { code, count, plain } from "../view/wording.ts";
import {
  acknowledge,
  answer,
  type Effect,
  inOneStep,
  type Parts,
  type Place,
  placeOf,
  refuse,
} from "./intent.ts";
import { takeChange } from "./lifecycle.ts";
import { sayStatus } from "./status.ts";

/** The same wish this soon again, while its run is not over, is the same run. */
const twinMs = 60_000;
/** What the label trimo:now adds; age decides among equals. */
const hurried = 10;

/**
 * Turns what people do on GitHub into runs. An intent is stored with its effect under the
 * delivery's number, so a delivery that is handled twice has its effect once.
 */
export function registerIntents(parts: Parts) {
  parts.github.onEvent(async (guid, event, payload) => {
    const happening = readPayload(event, payload, parts.github.appId);
    if (happening) await take(parts, guid, happening);
  });
}

async function take(parts: Parts, guid: string, happening: Happening) {
  switch (happening.type) {
    case "labeled":
    case "unlabeled":
      return await labeled(parts, guid, happening);
    case "said":
      return await said(parts, guid, happening);
    case "pressed":
      return await pressed(parts, guid, happening);
    case "ci":
      return await ciOver(parts, guid, happening);
    default:
      return await takeChange(parts, guid, happening);
  }
}

async function labeled(parts: Parts, guid: string, event: Labeled) {
  if (isBot(event.sender)) return;
  const name = event.label.toLowerCase();
  if (name === nowLabel || name === holdLabel) return await steer(parts, event, name);
  if (event.type === "unlabeled") return;
  const { config, mistakes } = await readConfig(parts, event);
  const intent = labelIntent(event.label, config);
  if (!intent) return;
  const place = { ...placeOf("label", guid, event, event.issue.number), label: event.label };
  const kind = event.issue.isPull ? ("fix" as const) : ("run" as const);
  if (!(await mayOrRefuse(parts, place, kind, config))) return;
  if (mistakes.length > 0) return await sayMistakes(parts, place, mistakes);
  if (!event.issue.open)
    return await answer(
      parts,
      place,
      "closed",
      "This is closed: open it again, then add the label.",
    );
  await startHere(parts, place, event.issue, config, {
    kind,
    agent: intent.agent,
    image: intent.image,
    prompt: issuePrompt(event.issue),
    trigger: `label ${event.label}`,
    label: event.label,
    askedAt: event.at,
    ownComment: false,
    heard: null,
  });
}

/** The two labels that steer the queue: what they say holds while they are on the issue. */
async function steer(parts: Parts, event: Labeled, name: string) {
  const on = event.type === "labeled";
  const { db, clock, wake } = parts;
  await db.write(async (tx) => {
    const pipeline = await findOpen(tx, event.repository.id, event.issue.number);
    if (!pipeline) return;
    const at = clock.now();
    if (name === holdLabel) await record(tx, pipeline.id, { held: on });
    else {
      const priority = on ? hurried : 0;
      await record(tx, pipeline.id, { priority });
      await recordPriority(tx, pipeline.id, priority);
    }
    for (const run of await openRuns(tx, pipeline.id)) await wantShown(tx, at, run, true);
    await wantPlaces(tx, at, pipeline.workspace);
  });
  wake.emit("reports", event.workspace);
  wake.emit("queue");
}

async function said(parts: Parts, guid: string, event: Said) {
  const command = parseCommand(event.body);
  const kind = event.where === "comment" ? ("comment" as const) : ("review" as const);
  const place = placeOf(kind, guid, event, event.issue.number);
  if (!command) return event.wantsChanges ? await offerFix(parts, place, event) : undefined;
  const { config, mistakes } = await readConfig(parts, event);
  const name = "problem" in command ? (command.command ?? "help") : command.name;
  if (!(await mayOrRefuse(parts, place, name, config))) return;
  if ("problem" in command) return await answer(parts, place, "misunderstood", command.problem);
  await obey(parts, place, event, command, config, mistakes);
}

async function obey(
  parts: Parts,
  place: Place,
  event: Said,
  command: Command,
  config: TrimoYml,
  mistakes: Mistake[],
) {
  switch (command.name) {
    case "help":
      return await answer(parts, place, "help", helpTable(config.commands));
    case "status":
      return await sayStatus(parts, place);
    case "cancel":
      return await cancel(parts, place, event);
    case "done":
      return await complete(parts, place, event);
    case "tell":
      return await tell(parts, place, event, command, config, mistakes);
    default:
      if (mistakes.length > 0) return await sayMistakes(parts, place, mistakes);
      await startHere(parts, place, event.issue, config, wishOf(event, command, command.name));
  }
}

const wishOf = (event: Said, command: Command, kind: Run["kind"]): Wish => ({
  kind,
  agent: command.agent,
  image: command.image,
  fresh: command.fresh,
  prompt: promptOf(event, command),
  trigger: `/trimo ${command.name}`,
  label: null,
  askedAt: event.at,
  ownComment: event.where === "comment",
  heard: event,
});

/** Stages after which no agent hears anything. */
const beforeItsEnd: Stage[] = ["preparing", "cloning", "preboot", "agent"];

/** Words for the agent at work; where none can hear them they become the next run. */
async function tell(
  parts: Parts,
  place: Place,
  event: Said,
  command: Command,
  config: TrimoYml,
  mistakes: Mistake[],
) {
  const words = promptOf(event, command);
  if (!words)
    return await answer(parts, place, "tell", "Say what: `/trimo tell` and your words behind it.");
  if (words.length > tellMax)
    return await answer(
      parts,
      place,
      "tell",
      `That is more than ${tellMax} characters, which is all that can be told at once.`,
    );
  const found = await findOpen(parts.db.read, place.repository.id, place.thread);
  const open = found ? await openRuns(parts.db.read, found.id) : [];
  const live = open.find((run) => run.state === "running");
  const atWork = live && (live.stage === null || beforeItsEnd.includes(live.stage));
  if (!live?.steers || live.cancelledBy || !atWork) {
    // It starts a run, so whoever may not do that may not do it in these words either.
    if (!(await mayOrRefuse(parts, place, found ? "fix" : "run", config))) return;
    if (mistakes.length > 0) return await sayMistakes(parts, place, mistakes);
    const why = live
      ? live.cancelledBy
        ? `Run ${live.number} is being stopped`
        : live.steers
          ? `The agent of run ${live.number} has ended, and what it did is being verified`
          : `${code(live.agent ?? "The agent")} takes no messages while it works`
      : "No agent is at work here";
    const what = found ? "a corrective run" : "the first here";
    const say = (run: Run) => `${why}: your words are run ${run.number}, ${what}.`;
    return await startHere(parts, place, event.issue, config, {
      ...wishOf(event, command, found ? "fix" : "run"),
      say,
    });
  }
  let taken = false;
  await inOneStep(parts, place, async (tx, at) => {
    await acknowledge(tx, at, place, event.where, event.id);
    const now = await findRun(tx, live.id);
    const over = `Run ${live.number} ended just now: \`/trimo fix\` with your words starts the next.`;
    if (now?.state !== "running") return effect("answered", "tell", live, over);
    taken = await addTell(tx, at, now, place.sender, words);
    const full = `Run ${live.number} has been told as much as a run may be.`;
    return effect("answered", "tell", live, taken ? null : full);
  });
  if (taken && live.daemon) parts.wake.emit("tell", live.daemon, live.id, live.attempt);
}

/** The words behind the command; of a comment in a diff also its place. */
function promptOf(event: Said, command: Command): string {
  const words = command.prompt || (command.name === "run" ? issuePrompt(event.issue) : "");
  if (!event.spot) return words;
  return `${words || "See to this place."}\n\n${spotText(event.spot)}`;
}

type Wish = {
  kind: Run["kind"];
  agent: string | null;
  image: string | null;
  fresh?: boolean;
  /** Empty: what its kind says. */
  prompt: string;
  trigger: string;
  /** What is answered beside the run's own comment. */
  say?: (run: Run) => string;
  label: string | null;
  askedAt: number | null;
  /** The wish itself is one of the issue's comments. */
  ownComment: boolean;
  /** The comment that is to be answered with 👀. */
  heard: Said | null;
};

/** A run on the pipeline of an issue or pull request, which is opened when there is none. */
async function startHere(parts: Parts, place: Place, issue: Issue, config: TrimoYml, wish: Wish) {
  const { db } = parts;
  const say = (reason: string, text: string) => answer(parts, place, reason, text);
  const unknown = await unknownAgent(db.read, place, wish.agent);
  if (unknown) return await say("agent", unknown);
  const agents = await agentsHere(db.read, place, config);
  const found = await findOpen(db.read, place.repository.id, issue.number);
  const opener = found ? null : await prepareOpening(parts, place, issue, config, wish.kind);
  if (typeof opener === "string") return await say("cannot", opener);
  await inOneStep(parts, place, async (tx, at) => {
    if (wish.heard) await acknowledge(tx, at, place, wish.heard.where, wish.heard.id);
    const pipeline =
      (await findOpen(tx, place.repository.id, issue.number)) ?? (await opener?.(tx, at));
    if (!pipeline) return effect("answered", "over", null, "The pipeline ended just now.");
    return await addRun(tx, at, place, pipeline, wish, issue, agents);
  });
  parts.wake.emit("queue");
}

/** The repository's own agents that some machine has; all of them where none has one. */
async function agentsHere(db: Pick<Tx, "select">, place: Place, config: TrimoYml) {
  const wanted = agentsOf(config);
  const known = await agentsFor(db, place.repository.fullName);
  const here = wanted.filter((agent) => known.includes(agent));
  return here.length > 0 ? here : wanted;
}

const effect = (
  outcome: Effect["outcome"],
  reason: string,
  run: Run | null,
  say: string | null,
): Effect => ({ outcome, reason, run, say });

async function unknownAgent(
  db: Pick<Tx, "select">,
  place: Place,
  agent: string | null,
): Promise<string | null> {
  if (agent === null) return null;
  const known = await agentsFor(db, place.repository.fullName);
  if (known.length === 0 || known.includes(agent)) return null;
  return `No machine here has an agent ${code(agent)}. There ${known.length === 1 ? "is" : "are"}: ${known.map(code).join(", ")}.`;
}

type Opener = (tx: Tx, at: number) => Promise<Pipeline>;

/** What opens the pipeline that is missing, or why it cannot be opened. */
async function prepareOpening(
  parts: Parts,
  place: Place,
  issue: Issue,
  config: TrimoYml,
  kind: Run["kind"],
): Promise<Opener | string> {
  const { workspace, repository } = place;
  const common = {
    id: newId(),
    workspace,
    repository: repository.fullName,
    repositoryId: repository.id,
    issue: issue.number,
    title: issue.title,
    ...steeredBy(issue),
  };
  if (!issue.isPull) {
    if (!issue.open) return "This issue is closed: open it again first.";
    if (kind !== "run")
      return `There is no run here yet to ${kind === "retry" ? "repeat" : "build on"}: \`/trimo run\` starts one.`;
    if (!BranchName.safeParse(repository.defaultBranch).success)
      return `The default branch is named ${code(repository.defaultBranch)}, which is no name that Trimo passes to git.`;
    const pipeline = { ...common, baseBranch: repository.defaultBranch };
    return (tx, at) => open(tx, at, pipeline, config);
  }
  if (kind === "retry") return "There is no run here yet to repeat: `/trimo run` starts one.";
  const pull = await parts.github
    .workspace(workspace)
    .pullDetails(repository.fullName, issue.number);
  if (!pull || pull.state === "closed") return "This pull request is closed: open it again first.";
  if (pull.head.repository?.toLowerCase() !== repository.fullName.toLowerCase())
    return "This pull request comes from a fork, and Trimo pushes only to branches of this repository.";
  if (pull.head.branch === repository.defaultBranch)
    return "This pull request comes from the default branch, and no run works on that.";
  const names = [pull.head.branch, pull.base.branch];
  const odd = names.find((name) => !BranchName.safeParse(name).success);
  if (odd !== undefined) return `${code(odd)} is no branch name that Trimo passes to git.`;
  return (tx, at) =>
    adopt(tx, at, {
      ...common,
      branch: pull.head.branch,
      baseBranch: pull.base.branch,
      baseSha: pull.base.sha,
      headSha: pull.head.sha,
      pullNodeId: pull.nodeId,
      pullState: pull.state,
    });
}

/** What labels put on before its first run say. */
function steeredBy(issue: Issue): { held: boolean; priority: number } {
  const names = issue.labels.map((label) => label.toLowerCase());
  return { held: names.includes(holdLabel), priority: names.includes(nowLabel) ? hurried : 0 };
}

/** The run, or that it is there already. */
async function addRun(
  tx: Tx,
  at: number,
  place: Place,
  pipeline: Pipeline,
  wish: Wish,
  issue: Issue | null,
  /** The repository's, in turn. */
  agents: string[],
): Promise<Effect> {
  const last = await lastRun(tx, pipeline);
  const again = wish.kind === "retry" ? last : null;
  const kind = again && again.composed === null ? again.kind : wish.kind;
  const usual = kind === "fix" ? fixRequest : kind === "continue" ? continueRequest : "";
  const prompt = (again?.prompt ?? (wish.prompt || usual || pipeline.title)).slice(0, promptMax);
  const usualAgent = wish.kind === "run" ? null : (last?.agent ?? null);
  const agent = wish.agent ?? usualAgent ?? agents[0] ?? null;
  const wanted = { kind, prompt, agent, image: wish.image ?? again?.askedImage ?? null };
  // As it was asked: which agent that comes to may be known only a moment later.
  const { kind: wanting, agent: by, image, fresh } = wish;
  const asked = { kind: wanting, prompt, agent: by, image, fresh: fresh ?? false };
  const wished = hashOf(JSON.stringify(asked));
  const twin = (await openRuns(tx, pipeline.id)).find(
    (run) => at - run.createdAt < twinMs && run.wish === wished && run.cancelledBy === null,
  );
  if (twin)
    return effect(
      "answered",
      "twin",
      twin,
      `That is run ${twin.number} already, asked for a moment ago: it is done once.`,
    );
  // Nothing can have been said yet: no run before it, and no comment but the wish itself.
  const alone =
    last === null && !issue?.isPull && (issue?.comments ?? 0) <= (wish.ownComment ? 1 : 0);
  const run = await start(tx, at, {
    ...wanted,
    wish: wished,
    id: newId(),
    pipelineId: pipeline.id,
    workspace: pipeline.workspace,
    repository: pipeline.repository,
    // What the last run was told is found again when its turn comes, with that run in the hand-over.
    composed: alone && !again ? prompt : null,
    fresh: wish.fresh ?? again?.fresh ?? false,
    // Who asked for one agent by name wants that one.
    fallback: wish.agent === null ? agents : [],
    thread: place.thread,
    label: wish.label,
    priority: pipeline.priority,
    requestedBy: place.sender,
    trigger: wish.trigger,
    // What was said since is for the run after it, when this is told what the last was told.
    askedAt: again?.composed ? again.askedAt : (wish.askedAt ?? at),
  });
  await record(tx, pipeline.id, { done: false });
  return effect("run", wish.trigger, run, wish.say?.(run) ?? null);
}

async function cancel(parts: Parts, place: Place, event: Said) {
  let stopped: Run[] = [];
  await inOneStep(parts, place, async (tx, at) => {
    await acknowledge(tx, at, place, event.where, event.id);
    const pipeline = await findOpen(tx, place.repository.id, place.thread);
    stopped = pipeline ? await cancelRuns(tx, at, pipeline.id, place.sender) : [];
    const fresh = stopped.filter((run) => run.cancelledBy === null);
    const say =
      stopped.length === 0
        ? "No run is queued or under way here."
        : fresh.length === 0
          ? `Run ${stopped[0]?.number} is being stopped already, for ${plain(stopped[0]?.cancelledBy ?? "", 60)}.`
          : null;
    return effect(say === null ? "cancel" : "answered", "/trimo cancel", stopped[0] ?? null, say);
  });
  wakeStopped(parts.wake, stopped);
}

/** The person has what they wanted: the pull request is opened or made ready. */
async function complete(parts: Parts, place: Place, event: Said) {
  await inOneStep(parts, place, async (tx, at) => {
    await acknowledge(tx, at, place, event.where, event.id);
    const pipeline = await findOpen(tx, place.repository.id, place.thread);
    if (!pipeline) return effect("answered", "done", null, "There is nothing here to complete.");
    const [live] = await openRuns(tx, pipeline.id);
    if (live)
      return effect(
        "answered",
        "done",
        live,
        `Run ${live.number} is ${live.state === "queued" ? "still queued" : "still under way"}: wait for its end, or stop it with \`/trimo cancel\`.`,
      );
    if (pipeline.adopted)
      return effect(
        "answered",
        "done",
        null,
        "This pull request is its author's: they make it ready.",
      );
    const byPeople = pipeline.headSha !== null && pipeline.headSha !== pipeline.openingSha;
    const changed = byPeople || (await anyChanged(tx, pipeline));
    await record(tx, pipeline.id, { done: true });
    await want(tx, at, pipeline.workspace, "pull", pipeline.id, true);
    const what = !changed
      ? "No run changed anything: the draft is closed and its branch removed."
      : pipeline.pullNumber
        ? `Completed: pull request #${pipeline.pullNumber} is ready for review.`
        : "Completed: the pull request is being opened.";
    return effect("done", "/trimo done", null, what);
  });
}

async function anyChanged(tx: Tx, pipeline: Pipeline): Promise<boolean> {
  const all = await tx.select().from(runs).where(eq(runs.pipelineId, pipeline.id));
  return all.some((run) => run.changed);
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

const buttonCommands = { again: "retry", fix: "fix", continue: "continue" } as const;

/** A button of a completed check run, or its *Re-run*. */
async function pressed(parts: Parts, guid: string, event: Pressed) {
  const { db } = parts;
  const run = event.run ? await findRun(db.read, event.run) : await runAt(parts, event);
  const pipeline = run && (await findPipeline(db.read, run.pipelineId));
  if (!run || !pipeline || pipeline.repositoryId !== event.repository.id) return;
  const place = placeOf("button", guid, event, run.thread || pipeline.issue);
  const kind = buttonCommands[event.button];
  const { config, mistakes } = await readConfig(parts, event);
  if (!(await mayOrRefuse(parts, place, kind, config))) return;
  if (mistakes.length > 0) return await sayMistakes(parts, place, mistakes);
  if (pipeline.state !== "open")
    return await answer(
      parts,
      place,
      "over",
      "That pipeline is over: `/trimo run` under its issue starts another.",
    );
  const agents = await agentsHere(db.read, place, config);
  await inOneStep(parts, place, async (tx, at) => {
    const current = await findPipeline(tx, pipeline.id);
    if (current?.state !== "open")
      return effect("answered", "over", null, "That pipeline ended just now.");
    return await addRun(
      tx,
      at,
      place,
      current,
      {
        kind,
        agent: null,
        image: null,
        prompt: "",
        trigger:
          event.button === "again" ? "Run again" : event.button === "fix" ? "Fix it" : "Continue",
        label: null,
        askedAt: null,
        ownComment: false,
        heard: null,
      },
      null,
      agents,
    );
  });
  parts.wake.emit("queue");
}

/** The newest run whose check stands on a commit. */
async function runAt({ db }: Parts, event: Pressed): Promise<Run | null> {
  const [row] = await db.read
    .select()
    .from(runs)
    .where(eq(runs.headSha, event.sha))
    .orderBy(desc(runs.createdAt))
    .limit(1);
  return row ?? null;
}

/** A review that asks for changes is a person's word; whether an agent takes it up is theirs to say. */
async function offerFix(parts: Parts, place: Place, event: Said) {
  const pipeline = await findOpen(parts.db.read, place.repository.id, event.issue.number);
  if (!pipeline || pipeline.pullNumber !== event.issue.number) return;
  const { config } = await readConfig(parts, place);
  const { workspace, repository, sender } = place;
  const has = await parts.permissions.of(workspace, repository.fullName, sender);
  // An outsider's review would not go along, and is no reason to write to everybody.
  if (!allows(has, "write") || !allows(has, needOf("fix", config.commands))) return;
  const once = `offer:${pipeline.id}:${pipeline.headSha}`;
  const say = `❓ ${plain(place.sender, 60)} asks for changes. **Fix it**: press the button at the check *Trimo*, or write \`/trimo fix\`; the review and its comments go along.`;
  const offered = effect("offered", `review by ${place.sender}`, null, say);
  await inOneStep(parts, place, async () => ({ ...offered, once }));
}

/** CI that failed on a pipeline's own commits: a corrective run by itself where trimo.yml says so. */
async function ciOver(parts: Parts, guid: string, event: CiOver) {
  if (!event.failed) return;
  const pipeline = await findByBranch(parts.db.read, event.repository.id, event.branch);
  // The opening commit is the base's tree: what fails there is not a run's doing.
  if (!pipeline || pipeline.headSha !== event.sha || pipeline.openingSha === event.sha) return;
  const { config, mistakes } = await readConfig(parts, event);
  const source = config.discover?.find((one) => "ci" in one);
  const thread = pipeline.pullNumber ?? pipeline.issue;
  const place = { ...placeOf("ci", guid, event, thread), sender: event.app };
  const agents = await agentsHere(parts.db.read, place, config);
  const reason = `${event.app} failed on ${event.sha.slice(0, 7)}`;
  await inOneStep(parts, place, async (tx, at) => {
    const current = await findPipeline(tx, pipeline.id);
    if (current?.state !== "open" || current.headSha !== event.sha)
      return effect("answered", `${reason}; the pipeline has moved on`, null, null);
    if (!(await madeByRun(tx, pipeline, event.sha)))
      return effect("answered", `${reason}; a person's commit`, null, null);
    const open = await openRuns(tx, pipeline.id);
    if (open.length > 0)
      return effect("answered", `${reason}; a run is under way`, open[0] ?? null, null);
    const own = await startedByCi(tx, pipeline);
    if (source && mistakes.length === 0 && own < source.most)
      return await addRun(
        tx,
        at,
        place,
        pipeline,
        {
          kind: "fix",
          agent: null,
          image: null,
          prompt: "",
          trigger: `CI failed: ${event.app}`,
          label: null,
          askedAt: null,
          ownComment: false,
          heard: null,
        },
        null,
        agents,
      );
    const tried = source ? ` ${count(own, "run")} of Trimo's own did not mend it.` : "";
    const say = `❓ ${plain(event.app, 60)} failed on ${event.sha.slice(0, 7)}.${tried} **Fix it**: press the button at the check *Trimo*, or write \`/trimo fix\`; what failed goes along.`;
    return { ...effect("offered", reason, null, say), once: `ci:${pipeline.id}:${event.sha}` };
  });
  parts.wake.emit("queue");
}

/** Whether a commit is a run's own: people's are theirs to mend. */
async function madeByRun(tx: Tx, pipeline: Pipeline, sha: string): Promise<boolean> {
  const all = await tx.select().from(runs).where(eq(runs.pipelineId, pipeline.id));
  return all.some((run) => run.changed && run.headSha === sha);
}

/** How many runs CI has started on a pipeline since a person last asked for one. */
async function startedByCi(tx: Tx, pipeline: Pipeline): Promise<number> {
  const newestFirst = await tx
    .select({ trigger: runs.trigger })
    .from(runs)
    .where(eq(runs.pipelineId, pipeline.id))
    .orderBy(desc(runs.number));
  const byPeople = newestFirst.findIndex((run) => !run.trigger.startsWith("CI failed"));
  const own = byPeople < 0 ? newestFirst : newestFirst.slice(0, byPeople);
  // One that goes on for another is the same attempt.
  return own.filter(({ trigger }) => !isContinuation(trigger)).length;
}

/** A firing of a schedule found this issue; whoever may write trimo.yml has asked for it. */
export async function startScheduled(
  parts: Parts,
  place: Place,
  issue: Issue,
  config: TrimoYml,
  agent: string | null,
) {
  // Once tried, it is a person's to try again.
  if (await hadPipeline(parts.db.read, place.repository.id, issue.number)) return false;
  if (await unknownAgent(parts.db.read, place, agent)) return false;
  await startHere(parts, place, issue, config, {
    kind: "run",
    agent,
    image: null,
    prompt: issuePrompt(issue),
    trigger: "schedule",
    label: null,
    askedAt: null,
    ownComment: false,
    heard: null,
  });
  return true;
}

/** An issue as a prompt; an empty one is its title. */
function issuePrompt(issue: Issue): string {
  return visible(`${issue.title}\n\n${issue.body}`).trim();
}

/** Whether the sender may, as GitHub says it; who may not is told so. */
async function mayOrRefuse(
  parts: Parts,
  place: Place,
  name: CommandName,
  config: TrimoYml,
): Promise<boolean> {
  const { workspace, repository, sender } = place;
  const has = await parts.permissions.of(workspace, repository.fullName, sender);
  const need = needOf(name, config.commands);
  place.outsider = !allows(has, "write");
  if (allows(has, need)) return true;
  const what = place.label ? `the label ${code(place.label)}` : `\`/trimo ${name}\``;
  await refuse(parts, place, what, need, has);
  return false;
}
