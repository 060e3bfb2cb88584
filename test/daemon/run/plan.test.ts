import { expect, test } from "vitest";
import type { Job } from "../../../app/protocol/job.ts";
import { AgentSettings } from "../../../daemon/agent-settings.ts";
import type { Config } from "../../../daemon/config.ts";
import {
  makePlan,
  PlanError,
  refuseDefaultBranch,
  refuseForeign,
} from "../../../daemon/run/plan.ts";

const script = (image?: string) =>
  AgentSettings.parse({ adapter: "script", command: ["true"], ...(image ? { image } : {}) });

const config: Config = {
  server: "https://trimo.example.com",
  github: "https://github.com",
  token: "t",
  data: "/nowhere",
  slots: 2,
  repositories: ["acme/*"],
  images: ["trimo/*"],
  limits: { cpus: 2, memory: "4g", pids: 1024, disk: "20g", minutes: 60, preboot_seconds: 300 },
  egress: { mode: "default", allow: [] },
  builds: false,
  sessions: { days: 14, disk: "5g" },
  away_minutes: 30,
  push_minutes: 10,
  agents: { first: script(), second: script("acme/second:1") },
};

const job: Job = {
  run: "abcdefghijkm",
  attempt: 1,
  leaseMs: 1_000,
  number: 1,
  pipeline: "abcdefghijkn",
  repository: "acme/app",
  issue: 1,
  title: "x",
  branch: "trimo/1-x",
  base: { branch: "main", sha: "a".repeat(40) },
  agent: null,
  image: null,
  prompt: "x",
  handoff: "",
  fresh: false,
};

const plan = (trimoYml: string | null, changes: Partial<Job> = {}, own: Partial<Config> = {}) =>
  makePlan(
    { ...config, ...own },
    { ...job, ...changes },
    { branchSha: null, defaultSha: "b".repeat(40), trimoYml },
  );

test.each([
  ["cpus: 64", { cpus: 2 }],
  ["cpus: 1", { cpus: 1 }],
  ["memory: 64g", { memoryBytes: 4 * 2 ** 30 }],
  ["memory: 512m", { memoryBytes: 512 * 2 ** 20 }],
  ["pids: 60000", { pids: 1024 }],
  ["pids: 100", { pids: 100 }],
  ["disk: 900g", { diskBytes: 20 * 2 ** 30 }],
  ["disk: 1g", { diskBytes: 2 ** 30 }],
  ["minutes: 600", { minutes: 60 }],
  ["minutes: 5", { minutes: 5 }],
  ["preboot_seconds: 3000", { prebootSeconds: 300 }],
  ["preboot_seconds: 10", { prebootSeconds: 10 }],
])("a repository that asks for %s gets no more than the machine's", (asked, given) => {
  expect(plan(`limits: { ${asked} }`)).toMatchObject(given);
});

test.each([
  [{}, "", { tokens: null, usd: null }],
  [{ tokens: 5_000, usd: 2 }, "", { tokens: 5_000, usd: 2 }],
  [{ tokens: 5_000, usd: 2 }, "tokens: 9000, usd: 1", { tokens: 5_000, usd: 1 }],
  [{}, "tokens: 9000, usd: 1", { tokens: 9_000, usd: 1 }],
])("a budget is the lower of the machine's %j and the repository's {%s}", (ceiling, asked, given) => {
  const limits = { ...config.limits, ...ceiling };
  expect(plan(`limits: { ${asked} }`, {}, { limits })).toMatchObject(given);
});

test.each([
  ["the machine's first where nobody names one", null, {}, "first"],
  ["the repository's", "agent: second", {}, "second"],
  ["the first of the repository's that is here", "agent: [absent, second]", {}, "second"],
  ["the run's before the repository's", "agent: second", { agent: "first" }, "first"],
])("the agent is %s", (_which, yml, changes, agent) => {
  expect(plan(yml, changes).agent).toBe(agent);
});

test.each([
  ["an agent that is not here", "agent: absent", {}, "agent_unknown"],
  ["an image that the machine does not allow", "image: evil/image:1", {}, "image_refused"],
  ["another agent's own image", "image: acme/second:1", {}, "image_refused"],
  ["the same, asked for by the run", null, { image: "evil/image:1" }, "image_refused"],
  ["a trimo.yml with mistakes", "verifi: [x]", {}, "config_invalid"],
])("there is no plan for %s", (_what, yml, changes, code) => {
  expect(() => plan(yml, changes)).toThrow(expect.objectContaining({ code }));
});

test("an agent's own image needs no rule, and a build no name", () => {
  expect(plan(null, { agent: "second" }).image).toBe("acme/second:1");
  expect(plan("build: .trimo/Dockerfile").build).toBe(".trimo/Dockerfile");
  expect(plan("build: .trimo/Dockerfile", { image: "trimo/other:1" }).build).toBeNull();
});

test("a run starts from its branch where that is, else from the default branch", () => {
  const known = { defaultSha: "b".repeat(40), trimoYml: null };
  expect(makePlan(config, job, { ...known, branchSha: null }).startSha).toBe("b".repeat(40));
  const branchSha = "c".repeat(40);
  expect(makePlan(config, job, { ...known, branchSha })).toMatchObject({ startSha: branchSha });
});

test("a repository that is not served, and the default branch, are refused whatever the app says", () => {
  expect(() => refuseForeign(config, "acme/app")).not.toThrow();
  expect(() => refuseForeign(config, "evil/app")).toThrow(PlanError);
  const fetched = { folder: "/nowhere", branchSha: null, defaultSha: "", trimoYml: null };
  const on = (defaultBranch: string | null) => () =>
    refuseDefaultBranch(job, { ...fetched, defaultBranch } as never);
  expect(on("main")).not.toThrow();
  expect(on("trimo/1-x")).toThrow(PlanError);
  expect(on(null)).toThrow(PlanError);
});
