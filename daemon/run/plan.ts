import { randomUUID } from "node:crypto";
import { Lexer, Parser, parseDocument } from "yaml";
import type { FailureCode } from "../../app/protocol/failure.ts";
import type { Job } from "../../app/protocol/job.ts";
import { isServed, matchesAny } from "../../app/protocol/pattern.ts";
import {
  agentsOf,
  mistakeLine,
  readTrimoYml,
  type TrimoYml,
  trimoYmlPath,
} from "../../app/protocol/trimo-yml.ts";
import { nothingSpent } from "../agents/adapter.ts";
import { bytesOf, type Config } from "../config.ts";
import { baseImage } from "../images/base.ts";
import type { Fetched } from "../repository/repositories.ts";
import type { Plan } from "./run-record.ts";

/** A run cannot be what was asked for; `code` says why, the message what to do. */
export class PlanError extends Error {
  readonly code: FailureCode;
  constructor(code: FailureCode, detail: string) {
    super(detail);
    this.code = code;
  }
}

/**
 * Refuses a repository that this machine does not serve, before anything is fetched: the app may be wrong,
 * or not ours any more.
 *
 * @throws PlanError
 */
export function refuseForeign(config: Config, repository: string) {
  if (isServed(repository, config.repositories)) return;
  throw new PlanError(
    "repository_refused",
    `${repository} is not among the repositories of this machine: ${config.repositories.join(", ")}`,
  );
}

/**
 * Refuses to work on the default branch, whatever the app says: on it lies the trimo.yml that is believed.
 *
 * @throws PlanError
 */
export function refuseDefaultBranch(job: Job, fetched: Fetched) {
  if (fetched.defaultBranch !== null && job.branch !== fetched.defaultBranch) return;
  throw new PlanError("push_refused", `${job.branch} is the default branch; no run works on it.`);
}

/**
 * Makes the plan of what this machine will do, from job, daemon.yml and the default branch's trimo.yml; a
 * repository never gets more than the machine allows.
 *
 * @throws PlanError when that cannot be done.
 */
export function makePlan(
  config: Config,
  job: Job,
  fetched: Pick<Fetched, "branchSha" | "defaultSha" | "trimoYml">,
): Plan {
  const requested = trimoYmlOf(fetched.trimoYml);
  const names = Object.keys(config.agents);
  const wanted = agentsOf(requested);
  const agent =
    job.agent ?? wanted.find((name) => names.includes(name)) ?? wanted[0] ?? names[0] ?? "";
  const settings = Object.hasOwn(config.agents, agent) ? config.agents[agent] : undefined;
  if (!settings)
    throw new PlanError(
      "agent_unknown",
      `There is no agent "${agent}" here, only ${names.join(", ")}.`,
    );
  const image = job.image ?? requested.image ?? settings.image ?? baseImage;
  // What daemon.yml itself names for an agent it may start.
  const ours = image === settings.image;
  if (!ours && !(requested.build && job.image === null) && !matchesAny(image, config.images))
    throw new PlanError(
      "image_refused",
      `${image} is not among the images of this machine: ${config.images.join(", ")}`,
    );
  const most = config.limits;
  const asked = requested.limits ?? {};
  return {
    agent,
    image,
    build: job.image === null ? (requested.build ?? null) : null,
    settings,
    launch: {
      resume: null,
      newSession: randomUUID(),
      stale: false,
      sessionKey: randomUUID(),
      spentBefore: nothingSpent,
    },
    tokens: least(most.tokens, asked.tokens),
    usd: least(most.usd, asked.usd),
    verify: requested.verify ?? [],
    cpus: Math.min(most.cpus, asked.cpus ?? most.cpus),
    memoryBytes: Math.min(bytesOf(most.memory), bytesOf(asked.memory ?? most.memory)),
    pids: Math.min(most.pids, asked.pids ?? most.pids),
    diskBytes: Math.min(bytesOf(most.disk), bytesOf(asked.disk ?? most.disk)),
    minutes: Math.min(most.minutes, asked.minutes ?? most.minutes),
    prebootSeconds: Math.min(most.preboot_seconds, asked.preboot_seconds ?? most.preboot_seconds),
    awayMs: config.away_minutes * 60_000,
    allow: requested.egress?.allow ?? [],
    branchSha: fetched.branchSha,
    startSha: fetched.branchSha ?? fetched.defaultSha,
    driftNote: "",
  };
}

/** The lower of a ceiling and what was requested; null: neither is there. */
function least(ceiling: number | undefined, requested: number | undefined): number | null {
  const known = [ceiling, requested].filter((one) => one !== undefined);
  return known.length > 0 ? Math.min(...known) : null;
}

function trimoYmlOf(text: string | null): TrimoYml {
  const { config, mistakes } = readTrimoYml(text, { Lexer, Parser, parseDocument });
  if (mistakes.length === 0) return config;
  const list = mistakes.slice(0, 20).map(mistakeLine).join("\n");
  throw new PlanError("config_invalid", `${trimoYmlPath}:\n${list}`);
}
