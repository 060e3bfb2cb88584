import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Dispatcher } from "undici";
import type { Clock } from "../../app/protocol/clock.ts";
import type { Fact } from "../../app/protocol/event.ts";
import type { Job } from "../../app/protocol/job.ts";
import type { Settle } from "../../app/protocol/settle.ts";
import type { Task } from "../../images/base/task.ts";
import { type Agent, type Api, apiOf } from "../agent-settings.ts";
import {
  type Adapter,
  type Launch,
  nothingSpent,
  type Problem,
  type Reader,
  type Spent,
} from "../agents/adapter.ts";
import { adapterOf } from "../agents/adapters.ts";
import { agentsWithSession, findSession, forgetSession, keepSession } from "../agents/sessions.ts";
import type { Config } from "../config.ts";
import {
  type Credential,
  CredentialError,
  createCredential,
  homePath,
  isSubscription,
} from "../gateway/credential.ts";
import type { Connection } from "../gateway/egress.ts";
import { Meter } from "../gateway/meter.ts";
import { createModel, type LimitHit, type Model } from "../gateway/model/model.ts";
import { baseUrlOf } from "../gateway/model/routes.ts";
import type { SessionFiles } from "../gateway/session-transfer.ts";
import type { Outbox } from "../server/outbox.ts";
import { PlanError } from "./plan.ts";
import type { Plan } from "./run-record.ts";

// What a run's agent has around it: the key it never sees, the meter, the files of its session, and
// who reads its output.

const loginBytesMax = 256 * 1024;

export type AgentSetup = {
  /** Null: the agent has no model, or a login of its own. */
  model: Model | null;
  meter: Meter;
  sessionFiles: SessionFiles;
  reader: Reader & {
    /** The agent begins a session after all. */
    forget(): void;
  };
  /** Of a task, what the agent's kind decides. */
  task: Pick<Task, "prompt" | "command" | "fresh" | "session" | "files">;
};

type Parts = {
  config: Config;
  job: Job;
  folder: string;
  outbox: Outbox;
  secrets: Set<string>;
  clock: Clock;
  /** The daemon's connections to models. */
  pool: Dispatcher;
};

/** Who is told of the agent's connections, and once, that it has to be ended. */
type On = { connection: (connection: Connection) => void; limitHit: (limit: LimitHit) => void };

/**
 * Decides once a run how its agent begins, and tells of it: with its session of this pipeline where it
 * lies on this machine, else with what is written of the runs before. Returns the plan's launch.
 */
export function chooseSession(
  { config, job, outbox }: Pick<Parts, "config" | "job" | "outbox">,
  { agent, settings, launch }: Plan,
): Plan["launch"] {
  if (job.fresh) {
    outbox.add({ type: "session", from: "nothing", why: "a fresh start was asked for" });
    return launch;
  }
  const found = findSession(config.data, job.pipeline, agent, settings.adapter);
  if (found) {
    // Told when the container has it. Stale: another machine or agent has worked on it since.
    const stale = found.number < job.number - 1;
    return { ...launch, resume: found.session, spentBefore: found.spent, stale };
  }
  if (!job.handoff || settings.adapter === "script") return launch;
  const others = agentsWithSession(config.data, job.pipeline).filter((name) => name !== agent);
  const why =
    others.length > 0
      ? `the session is of ${others.join(" and ")}`
      : "this machine has no session of it";
  outbox.add({ type: "session", from: "handoff", why });
  return launch;
}

/**
 * Makes everything of a run that hangs on its agent. `again`: for a restarted daemon, whose container is
 * under way with what it was given; a key that is gone since then ends the run only when it is asked for.
 *
 * @throws PlanError when its key or login cannot be read.
 */
export async function makeAgentSetup(
  parts: Parts,
  plan: Plan,
  on: On,
  again: boolean,
): Promise<AgentSetup> {
  const { config, job, folder, secrets, clock } = parts;
  const { settings, launch } = plan;
  const adapter = adapterOf(settings);
  const api = settings.expose ? null : apiOf(settings);
  const credential = createCredential(settings.credential, process.env, clock, (key) => {
    secrets.add(key);
  });
  const key = api ? await keyOf(() => credential.read(), again) : null;
  const meter = meterFor(parts, plan, on, api !== null);
  const from = launch.resume
    ? (findSession(config.data, job.pipeline, plan.agent, settings.adapter)?.path ?? null)
    : null;
  const sessionFiles = { key: launch.sessionKey, from, to: join(folder, "session.tar") };
  const begin: Launch = {
    name: plan.agent,
    model: settings.model ?? null,
    gateway: api && `http://127.0.0.1:3128/model/${plan.agent}`,
    subscription: isSubscription(key),
    resume: launch.resume,
    newSession: launch.newSession,
  };
  const files = await loginFiles(parts, settings, adapter.login, again);
  if (!again) sayUnlimited(parts, plan, api);
  return {
    model: api && modelFor(parts, plan, on, api, credential, meter),
    meter,
    sessionFiles,
    reader: forgettable(adapter, launch.resume ? launch.spentBefore : null),
    task: {
      ...words(job, plan, adapter, begin),
      session: {
        key: sessionFiles.key,
        restore: launch.resume !== null,
        paths: adapter.sessionFiles,
      },
      files,
    },
  };
}

/** Begun anew when the session could not be put back. */
function forgettable(adapter: Adapter, resumed: Spent | null): AgentSetup["reader"] {
  let reader = adapter.reader(resumed);
  return {
    read: (line) => reader.read(line),
    end: (end) => reader.end(end),
    session: () => reader.session(),
    forget() {
      reader = adapter.reader(null);
    },
  };
}

function meterFor({ clock, outbox }: Parts, plan: Plan, on: On, counted: boolean): Meter {
  const over = (text: string) => on.limitHit({ code: "budget_spent", text, resetAt: null });
  const tell = (fact: Fact) => outbox.add(fact);
  const price = plan.settings.price ?? null;
  return new Meter({ clock, tell, over }, price, plan, counted, lastUsage(outbox));
}

function modelFor(
  { outbox, secrets, clock, pool }: Parts,
  { agent, settings }: Plan,
  on: On,
  api: Api,
  credential: Credential,
  meter: Meter,
): Model {
  const service = {
    name: agent,
    api,
    baseUrl: baseUrlOf(api, settings.base_url),
    timeoutMs: settings.timeout_seconds * 1_000,
    patienceMs: settings.patience_seconds * 1_000,
  };
  const told = { ...on, fact: (fact: Fact) => outbox.add(fact) };
  return createModel({ settings: service, credential, meter, secrets, clock, pool, on: told });
}

/** Prompt and command line, and what they are for an agent that cannot have its session back. */
function words(job: Job, plan: Plan, adapter: Adapter, begin: Launch) {
  const commandOf = (launch: Launch): string[] => {
    const { command, env } = adapter.start(launch);
    const all = Object.entries({ AGENT: plan.agent, ...env, ...plan.settings.env });
    return ["/usr/bin/env", ...all.map(([name, value]) => `${name}=${value}`), ...command];
  };
  const resumed = begin.resume !== null;
  const prompt = promptOf(job, plan, resumed);
  const command = commandOf(begin);
  if (!resumed) return { prompt, command, fresh: null };
  const fresh = {
    prompt: promptOf(job, plan, false),
    command: commandOf({ ...begin, resume: null }),
  };
  return { prompt, command, fresh };
}

/** A reader from the beginning, for a container that only saves what a dead one left. */
export const blankReader = ({ settings }: Plan): Reader => adapterOf(settings).reader(null);

/** Whether the agent of a plan hears messages while it works. */
export const acceptsMessages = ({ settings }: Plan): boolean => adapterOf(settings).acceptsMessages;

async function keyOf(read: () => Promise<string | null>, again: boolean): Promise<string | null> {
  try {
    return await read();
  } catch (error) {
    if (again) return null;
    if (error instanceof CredentialError) throw new PlanError("credential_missing", error.message);
    throw error;
  }
}

/** A login that daemon.yml lets into the container; every word of it is masked in what is told. */
async function loginFiles(
  { secrets, outbox }: Parts,
  settings: Agent,
  to: string | null,
  again: boolean,
): Promise<Task["files"]> {
  if (!settings.expose || !settings.login || !to) return [];
  const text = await readFile(homePath(settings.login), "utf8").catch(
    (error: NodeJS.ErrnoException) => {
      if (again) return "";
      throw new PlanError("credential_missing", `${settings.login} cannot be read: ${error.code}`);
    },
  );
  if (text.length > loginBytesMax)
    throw new PlanError("credential_missing", `${settings.login} is too large for a login`);
  for (const [, value = ""] of text.matchAll(/"([^"\\\s]{12,})"/g)) secrets.add(value);
  if (again) return [];
  const what = "the agent's login is in its container, where the agent can read it";
  outbox.add({ type: "notice", text: `${what} (daemon.yml says \`expose: true\`)` });
  return [{ path: to, text }];
}

/** What the agent is told: a script as it was asked, others also how they work here. */
function promptOf(job: Job, plan: Plan, resumed: boolean): string {
  const parts = [job.prompt];
  const knows = resumed && !plan.launch.stale;
  if (!knows && job.handoff && !job.fresh) parts.push(job.handoff);
  const whole = parts.join("\n\n") + plan.driftNote;
  if (plan.settings.adapter === "script" || resumed) return whole;
  return `${whole.trimEnd()}\n\n${workingInstructions(job, plan)}\n`;
}

function workingInstructions(job: Job, { verify }: Plan): string {
  const proof =
    verify.length > 0
      ? `After you finish, these commands run and decide the result: ${verify.map((one) => `\`${one}\``).join(", ")}.`
      : "";
  return [
    "## How you work here",
    `You work unattended, in a container made for this run, on the branch \`${job.branch}\`. Commit as you go, in small commits; each is pushed for you. Stay on this branch and do not rewrite its history. Only allowed hosts can be reached; a refused connection stays refused. \`gh\` reads this repository's issues, pull requests and checks. ${proof}`.trim(),
    "If you cannot continue without a decision by a person, end with one line `::ask:: your question`.",
  ].join("\n\n");
}

/** Dollars are known only by a price, or at the end of an agent that tells them. */
function sayUnlimited({ outbox }: Parts, { usd, settings }: Plan, api: Api | null) {
  if (usd === null || settings.price || api === null) return;
  const text =
    "limits.usd is checked only when the agent ends, because daemon.yml gives no `price:` for it";
  outbox.add({ type: "notice", text });
}

function lastUsage(outbox: Outbox): Spent {
  const last = outbox.events.findLast((event) => event.type === "usage");
  if (last?.type !== "usage") return nothingSpent;
  const { inputTokens, cachedTokens, outputTokens, costMicroUsd } = last;
  return { inputTokens, cachedTokens, outputTokens, costMicroUsd };
}

/** Keeps the session for the next run; forgets it when the agent would not have it back. */
export async function settleSession(
  { config, job, clock, outbox }: Omit<Parts, "pool">,
  plan: Plan,
  { reader, sessionFiles, model }: AgentSetup,
  /** Why the agent's work does not count, when it ended by itself. */
  problem: Problem | null,
) {
  const silent = model !== null && !outbox.events.some((event) => event.type === "model");
  if (problem && silent && plan.launch.resume)
    return await forgetSession(config.data, job.pipeline, plan.agent);
  const session = reader.session();
  const named = session !== null && /^\w[\w.:-]{0,199}$/.test(session.id);
  if (!named || silent || !existsSync(sessionFiles.to)) return;
  await keepSession(config.data, sessionFiles.to, {
    pipeline: job.pipeline,
    agent: plan.agent,
    adapter: plan.settings.adapter,
    session: session.id,
    number: job.number,
    spent: session.spent,
    savedAt: clock.now(),
  });
}

/**
 * The quota that is used up: it holds for every agent with the same key at the same service. `resetAt`:
 * milliseconds since 1970; null: the service does not say.
 */
export function quotaOf(config: Config, plan: Plan, resetAt: number | null): Settle["quota"] {
  const { credential, base_url } = plan.settings;
  const same = Object.entries(config.agents).filter(
    ([name, other]) =>
      name === plan.agent ||
      (credential !== undefined && other.credential === credential && other.base_url === base_url),
  );
  return { resetAt, agents: same.map(([name]) => name).slice(0, 100) };
}
