import { execFile, execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { eq } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { messages } from "../../app/state/schema.ts";
import { containers, docker, leftovers, until } from "../support/rig.ts";
import {
  ask,
  buildImage,
  type Field,
  factsOf,
  image,
  keyOf,
  said,
  startField,
  story,
} from "./field.ts";

// The real Claude Code, Codex and opencode, installed from npm's packages, each through what a night
// may bring; Gemini and Qwen by the Agent Client Protocol.

const run = promisify(execFile);
const clis = ["claude", "codex", "opencode"];
let field: Field;

beforeAll(async () => {
  buildImage(["claude", "codex", "opencode", "gemini", "qwen"]);
  field = await startField([...clis, "gemini", "qwen", "acp", "night", "greedy"]);
}, 600_000);
afterAll(async () => {
  expect(field.rig.github.state.breaches).toEqual([]);
  await field.stop();
});

describe.each([...clis, "gemini", "qwen", "acp"])("%s", (agent) => {
  test("makes a commit of a labelled issue, and goes on with its session when it is corrected", async () => {
    const { repository, issue } = await ask(field, agent, agent, "hello");
    const first = await said(field.rig, repository, issue, "✅ **Run 1**");
    expect(first).toContain(agent);
    const branch = `trimo/${issue}-${agent}-hello`;
    const { repositories } = field.rig.github;
    expect(await repositories.git(repository, ["show", `${branch}:HELLO.md`])).toContain("Hello");
    expect(field.rig.github.checks(repository).some((row) => row.conclusion === "success")).toBe(
      true,
    );

    // Gemini 0.61 names a session's file by the minute, and begins it anew when it is loaded in the same.
    if (agent === "gemini") await nextMinute();
    const before = field.model.seen.length;
    await field.rig.github.comment("ana", repository, issue, "/trimo fix [[follow]] and one more");
    await said(field.rig, repository, issue, "✅ **Run 2**");
    expect(await repositories.git(repository, ["show", `${branch}:MORE.md`])).toContain("Hello");
    const [one, two] = await story(field, repository, issue);
    if (!one || !two) throw new Error("there are no two runs");
    // The model saw what was said and done in the run before.
    const asked = field.model.seen.slice(before).filter((row) => row.body.includes("[[follow]]"));
    expect(asked.at(-1)?.body).toContain("I will create HELLO.md and commit it.");
    expect(asked.at(-1)?.body).toContain("[[hello]]");
    expect(factsOf(two, "session")).toMatchObject([{ from: "session" }]);
    expect(one.run.tokens).toBeGreaterThan(1_000);
    expect(factsOf(one, "tool").length).toBeGreaterThan(0);
    expect(factsOf(one, "model").every((row) => row.status === 200)).toBe(true);
    expect(factsOf(one, "egress").filter((row) => row.allowed)).toEqual([]);
  });
});

async function nextMinute() {
  const left = 60_000 - (Date.now() % 60_000);
  await new Promise((resolve) => setTimeout(resolve, left + 500));
}

/** What each fault of the service comes to, whichever agent meets it. */
const outcomes = {
  "401": "credential_refused",
  "429": "quota_reached",
  "500": "model_overloaded",
  cut: "model_overloaded",
  hang: "model_overloaded",
};
/**
 * What root finds in the containers: environments, command lines, and every place that anything was
 * written to. Not at once: GitHub's stand-in and the model live in this very process.
 */
async function keysInside(): Promise<string[]> {
  const look = `cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -aE 'canary(-of|_fault)'
grep -rlaE 'canary(-of|_fault)' /home /tmp /run /var /etc /root /workspace /dev/shm 2>/dev/null; true`;
  const found: string[] = [];
  for (const id of running()) {
    const { stdout } = await run("docker", ["exec", "-u", "0", id, "/bin/sh", "-c", look]);
    found.push(...stdout.split("\n").filter((line) => line && !line.includes("grep")));
  }
  return found;
}
const running = () => containers(field.rig);
const nothingLeft = () =>
  until("the end of every container", () => leftovers(field.rig).length === 0);

/** It has spoken, and its tool has begun; opencode tells of a tool only when that has ended. */
async function atWork(repository: string, issue: number) {
  const look = async () => {
    const [one] = await story(field, repository, issue);
    return one && factsOf(one, "say").length > 0 ? one : null;
  };
  await until("its first words", look, 60_000);
  await new Promise((resolve) => setTimeout(resolve, 800));
}

describe.each(clis)("%s before a service that fails", (agent) => {
  test("ends with what the service said, and does not outlive it", async () => {
    const asked = [];
    for (const fault of Object.keys(outcomes))
      asked.push({ fault, ...(await ask(field, agent, `${agent}-${fault}`, "hello")) });
    for (const { fault, repository, issue } of asked) {
      const code = outcomes[fault as keyof typeof outcomes];
      const body = await said(field.rig, repository, issue, "❌ **Run 1**", code);
      expect(body).not.toContain("canary");
      const [one] = await story(field, repository, issue);
      const last = one && factsOf(one, "model").at(-1);
      expect(last?.problem).not.toBe("");
    }
    const quota = asked.find(({ fault }) => fault === "429");
    if (!quota) throw new Error("no 429");
    // The next run stands in line already, and says until when it waits; cancelling ends the wait.
    const waiting = await said(
      field.rig,
      quota.repository,
      quota.issue,
      "⏳ **Run 2**",
      "waiting for quota",
    );
    expect(waiting).toContain("is used up until");
    await field.rig.github.comment("ben", quota.repository, quota.issue, "/trimo cancel");
    await said(field.rig, quota.repository, quota.issue, "⏹️ **Run 2**");
    await nothingLeft();
  });

  test("is stopped in the middle of a tool, and leaves nothing", async () => {
    const { repository, issue } = await ask(field, agent, agent, "slow");
    await atWork(repository, issue);
    expect(await keysInside()).toEqual([]);
    const askedAt = Date.now();
    await field.rig.github.comment("ben", repository, issue, "/trimo cancel");
    await until("its end", () => running().length === 0);
    expect(Date.now() - askedAt).toBeLessThan(15_000);
    await said(field.rig, repository, issue, "⏹️ **Run 1**");
    await nothingLeft();
  });

  test("goes on when the daemon is killed in the middle of a turn, and is told once", async () => {
    const { repository, issue } = await ask(field, agent, agent, "wait");
    await atWork(repository, issue);
    await field.daemon.kill("SIGKILL");
    field.daemon = field.start();
    await said(field.rig, repository, issue, "✅ **Run 1**");
    const [one] = await story(field, repository, issue);
    if (!one) throw new Error("no run");
    const words = factsOf(one, "say").map((row) => row.text);
    expect(words).toEqual(["Waiting a moment.", "Waited.", "Done waiting."]);
    await nothingLeft();
  });
});

test("an agent that fills its memory is ended for that", async () => {
  const asked = [];
  for (const agent of clis) asked.push(await ask(field, "greedy", agent, "greedy"));
  for (const { repository, issue } of asked)
    await said(field.rig, repository, issue, "❌ **Run 1**", "out_of_memory");
  await nothingLeft();
});

describe.each(["claude", "acp"])("what people tell %s while it works", (agent) => {
  test("reaches the running session within two seconds", async () => {
    const { repository, issue } = await ask(field, "night", agent, "wait");
    await atWork(repository, issue);
    await field.rig.github.comment(
      "ben",
      repository,
      issue,
      "/trimo tell Mention the moon as well.",
    );
    const one = await until("the event", async () => {
      const [now] = await story(field, repository, issue);
      return now && factsOf(now, "message").length > 0 ? now : null;
    });
    const [asked] = await field.db.read
      .select()
      .from(messages)
      .where(eq(messages.runId, one.run.id));
    const told = one.facts.find((fact) => fact.type === "message");
    expect((told?.at ?? Number.NaN) - (asked?.at ?? 0)).toBeLessThan(2_000);
    expect(factsOf(one, "message")).toMatchObject([
      { by: "ben", text: "Mention the moon as well." },
    ]);
    await said(field.rig, repository, issue, "**Run 1** ");
    await until("the model to hear of it", () =>
      field.model.seen.some((row) => row.body.includes("Mention the moon as well.")),
    );
    await until("its end", () => running().length === 0);
    await nothingLeft();
  });
});

test("what people tell an agent that takes no messages is the next run, and the answer says so", async () => {
  const { repository, issue } = await ask(field, "night", "codex", "wait");
  await atWork(repository, issue);
  await field.rig.github.comment(
    "ben",
    repository,
    issue,
    "/trimo tell [[follow]] Mention the moon.",
  );
  await said(field.rig, repository, issue, "takes no messages while it works", "run 2");
  await said(field.rig, repository, issue, "✅ **Run 2**");
});

test("a login that daemon.yml exposes goes in, is masked in what is told, and the run says so", async () => {
  const { repository, issue } = await ask(field, "night", "exposed", "hello");
  // Its own service is not on this machine's list; it tries for as long as it may.
  const one = await until("its attempt to go out", async () => {
    const [now] = await story(field, repository, issue);
    return now && factsOf(now, "egress").some((row) => row.allowed === false) ? now : null;
  });
  const notices = factsOf(one, "notice").map((row) => String(row.text));
  expect(notices.some((text) => text.includes("expose: true"))).toBe(true);
  const [id = ""] = running();
  const login = ["exec", "-u", "1000", id, "cat", "/home/agent/.codex/auth.json"];
  expect(docker(...login).join("")).toContain("exposed-login-0123456789abcdef");
  await field.rig.github.comment("ben", repository, issue, "/trimo cancel");
  await said(field.rig, repository, issue, "⏹️ **Run 1**");
  await nothingLeft();
});

test("trimo doctor proves an agent by one tiny run, and leaves nothing", async () => {
  const folder = field.rig.folder;
  const config = join(folder, "studio.yml");
  const prompt = ["--prompt", "[[hello]] please"];
  const doctor = (agent: string) =>
    field.rig.run("doctor", "--config", config, "--agent", agent, "--json", ...prompt);
  Object.assign(process.env, field.env);
  const good = JSON.parse((await doctor("codex")).output);
  expect(good.proof).toMatchObject({ ok: true, commits: [{ subject: "Add HELLO.md" }] });
  const bad = await doctor("codex-401");
  expect(bad.exit).toBe(1);
  expect(JSON.parse(bad.output).proof.end.failure.code).toBe("credential_refused");
  expect(bad.output + bad.errors).not.toContain("canary");
  const none = await doctor("nobody");
  expect(none.output).toContain('names no agent \\"nobody\\"');
  expect(docker("ps", "-aq", "--filter", "name=trimo-doctor")).toEqual([]);
});

test("image check says which agents an image has", async () => {
  const { exit, output } = await field.rig.run("image", "check", image, "--json");
  expect(exit).toBe(0);
  const names = JSON.parse(output).agents.map(({ name }: { name: string }) => name);
  expect(names).toEqual(["claude", "codex", "opencode", "gemini", "qwen"]);
  for (const { version } of JSON.parse(output).agents) expect(version).toMatch(/^\d+\.\d+\.\d+/);
});

test("a quota that is used up hands over to the next agent of the list at once", async () => {
  const { repositories } = field.rig.github;
  const text = "agent: [claude-429, codex]\nverify: ['true']\n";
  await repositories.commitFile("acme/gemini", "main", ".github/trimo.yml", text, "Two agents");
  const body = "[[hello]] Do as the script says.";
  const issue = await field.rig.github.openIssue("ana", "acme/gemini", "two agents", body);
  await field.rig.github.label("ana", "acme/gemini", issue, "trimo");
  await said(field.rig, "acme/gemini", issue, "❌ **Run 1**", "quota_reached");
  const next = await said(field.rig, "acme/gemini", issue, "✅ **Run 2**");
  expect(next).toContain("— `codex`");
  expect(next).toContain("written handoff");
});

test("a question, a refusal and nothing to do are told as such; a plan is a checklist", async () => {
  const question = await ask(field, "night", "claude", "ask");
  const refusal = await ask(field, "night", "claude", "refuse");
  const nothing = await ask(field, "night", "opencode", "nothing");
  const planned = await ask(field, "night", "opencode", "plan");
  const loud = await ask(field, "night", "claude", "loud");
  await said(
    field.rig,
    question.repository,
    question.issue,
    "❓ **Run 1**",
    "Should the old endpoint",
  );
  await said(field.rig, refusal.repository, refusal.issue, "❌ **Run 1**", "agent_refused");
  await said(field.rig, nothing.repository, nothing.issue, "⚪ **Run 1**");
  // A line of a megabyte, bytes that are no UTF-8, colours of a terminal.
  await said(field.rig, loud.repository, loud.issue, "⚪ **Run 1**", "Printed.");
  await said(field.rig, planned.repository, planned.issue, "✅ **Run 1**");
  const [one] = await story(field, planned.repository, planned.issue);
  expect(one && factsOf(one, "plan")).toMatchObject([
    {
      items: [
        { text: "reproduce the off-by-one", done: true },
        { text: "fix formatDate", done: false },
      ],
    },
  ]);
  expect(one && factsOf(one, "edit")).toEqual([{ path: "PLAN.md", added: 3, removed: 0 }]);
  const check = field.rig.github
    .checks(planned.repository)
    .find((row) => row.output.summary.includes("off-by-one"));
  expect(check?.output.summary).toContain("- [x] reproduce the off-by-one");
});

test("no key is anywhere but with the daemon and the model; nobody reaches anything else", async () => {
  for (const agent of clis) {
    const { repository, issue } = await ask(field, "night", agent, "outside");
    await said(field.rig, repository, issue, "✅ **Run 1**");
    const [one] = await story(field, repository, issue);
    if (!one) throw new Error("no run");
    const kept = factsOf(one, "egress");
    expect(kept.every((row) => row.allowed === false)).toBe(true);
    expect(kept.map((row) => row.host)).toContain("example.com:443");
    const page = await (await fetch(`${field.rig.appUrl}/runs/${one.run.id}`)).text();
    expect(page).toContain("Network connections");
    expect(page).toContain("example.com:443");
    expect(field.model.seen.some((row) => row.key === keyOf(agent))).toBe(true);
  }
  expect(field.model.seen.every((row) => row.key.includes("canary"))).toBe(true);
  // The transcripts hold the agents' environment, /proc and what the model said back.
  const data = join(field.rig.folder, "studio", "daemon");
  const transcripts = readdirSync(join(data, "transcripts"));
  expect(transcripts.length).toBeGreaterThan(10);
  const found = execFileSync("/bin/sh", [
    "-c",
    `grep -rl canary "${data}" "${join(field.rig.folder, "app")}" || true`,
  ]).toString();
  expect(found).toBe("");
  const all = transcripts.map((name) => readFileSync(join(data, "transcripts", name), "utf8"));
  expect(all.some((one) => one.includes("held-by-trimo"))).toBe(true);
});
