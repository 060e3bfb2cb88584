import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leftovers, until } from "../support/rig.ts";
import { agents, repository, type Scene, startScene } from "../support/scene.ts";

// GitHub away, refusing and repeating itself, and the app killed after each of its writes.

let scene: Scene;

beforeAll(async () => {
  scene = await startScene({
    slots: 1,
    push_minutes: 0.05,
    limits: { memory: "512m", cpus: 1, minutes: 3 },
    agents,
  });
});
afterAll(async () => {
  expect(scene.rig.github.state.breaches).toEqual([]);
  await scene.rig.stop();
});

describe("GitHub", () => {
  test("sending one delivery five times at once starts one run", async () => {
    scene.rig.github.state.deliveryFault = "double";
    const issue = await scene.begin("Five times", "quick");
    scene.rig.github.state.deliveryFault = "none";
    await scene.finalComment(issue);
    const comments = await scene.rig.github.comments(repository, issue);
    expect(comments).toHaveLength(1);
    expect(await scene.pullOf(issue)).toHaveLength(1);
  });

  test("answering 502 after it did what was asked leaves one branch, pull request, check run and comment", async () => {
    const { state } = scene.rig.github;
    for (const door of ["git/commits", "git/refs", "pulls", "check-runs", "issues/\\d+/comments"])
      state.faults.push({
        when: new RegExp(`^POST /repos/acme/app/${door}$`),
        times: 1,
        at: "after",
        status: 502,
      });
    const issue = await scene.begin("Bad gateway", "quick");
    const end = await scene.finalComment(issue);
    expect(end.body).toContain("✅ **Run 1**");
    expect(state.faults.every((fault) => fault.times === 0)).toBe(true);
    state.faults.length = 0;
    expect(await scene.rig.github.comments(repository, issue)).toHaveLength(1);
    const pulls = await scene.pullOf(issue);
    expect(pulls).toHaveLength(1);
    expect(pulls[0]?.head.ref).toBe(`trimo/${issue}-bad-gateway`);
    const shas = scene.rig.github
      .checks(repository)
      .filter((row) => end.body.includes(row.external_id))
      .map((row) => row.head_sha);
    expect(new Set(shas).size).toBe(shas.length);
  });

  test("finding the app away is asked for the delivery again when it is back", async () => {
    await scene.app.kill("SIGKILL");
    const issue = await scene.begin("Nobody home", "quick");
    await until("the failed delivery", () =>
      scene.rig.github.state.deliveries.some(
        (row) => row.action === "labeled" && row.status === 502,
      ),
    );
    scene.app = await scene.rig.startApp();
    expect((await scene.finalComment(issue)).body).toContain("✅ **Run 1**");
    const guids = scene.rig.github.state.deliveries.filter((row) =>
      row.body.includes("Nobody home"),
    );
    expect(guids.some((row) => row.status === 202)).toBe(true);
    expect(await scene.rig.github.comments(repository, issue)).toHaveLength(1);
  });

  test("whose git is away for 20 seconds at a run's start is waited for, and people are told", async () => {
    const { state } = scene.rig.github;
    state.gitAway = true;
    const issue = await scene.begin("Outage", "quick");
    const told = "GitHub does not answer; waiting since";
    await until("the notice", async () => (await scene.story(issue)).includes(told));
    // As long as failed every run before.
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    expect(await scene.story(issue)).not.toContain("repository_unreachable");
    state.gitAway = false;
    expect((await scene.finalComment(issue)).body).toContain("✅ **Run 1**");
  });

  test("whose git is away at a run's end takes the commits later; meanwhile another run has the slot", async () => {
    const { state } = scene.rig.github;
    const issue = await scene.begin("Late", "steady");
    await until("the agent", async () => (await scene.story(issue)).includes("step 2"));
    state.gitAway = true;
    const told = "GitHub does not take the commits; waiting since";
    await until("the notice", async () => (await scene.story(issue)).includes(told));
    await until("its container's end", () => leftovers(scene.rig).length === 0);
    const next = await scene.begin("Next", "quick");
    await until("the next one", async () => (await scene.story(next)).includes("claimed by"));
    await scene.daemon.kill("SIGKILL");
    scene.daemon = scene.startDaemon();
    await until("both again", () => /a run of an earlier start/.test(scene.daemon.output()));
    state.gitAway = false;
    for (const one of [issue, next])
      expect((await scene.finalComment(one)).body).toContain("✅ **Run 1**");
    const kept = "Keep what run 1 left uncommitted";
    expect(await scene.subjects(issue)).toEqual(["Step1", "Step2", "Step3", kept]);
    expect(await scene.rig.github.comments(repository, issue)).toHaveLength(1);
    await until("nothing left behind", () => leftovers(scene.rig).length === 0);
  });

  test("refusing for a while with 503 and a secondary limit only delays", async () => {
    const { state } = scene.rig.github;
    state.faults.push({ when: /^POST .*check-runs$/, times: 2, at: "before", status: 503 });
    state.faults.push({
      when: /^POST .*comments$/,
      times: 1,
      at: "before",
      status: 403,
      headers: { "retry-after": "2" },
    });
    const issue = await scene.begin("Limits", "quick");
    expect((await scene.finalComment(issue)).body).toContain("✅ **Run 1**");
    expect(await scene.rig.github.comments(repository, issue)).toHaveLength(1);
    state.faults.length = 0;
  });
});

describe("the app killed with -9 right after GitHub did", () => {
  const doors: [string, RegExp][] = [
    ["the opening commit", /^POST .*\/git\/commits$/],
    ["the branch", /^POST .*\/git\/refs$/],
    ["the pull request", /^POST .*\/pulls$/],
    ["the check run", /^POST .*\/check-runs$/],
    ["the comment", /^POST .*\/issues\/\d+\/comments$/],
    ["the check run's update", /^PATCH .*\/check-runs\/\d+$/],
    ["the pull request's body", /^PATCH .*\/pulls\/\d+$/],
    ["making it ready", /^POST \/graphql$/],
  ];
  test.each(doors)("%s does it once, and ends the run green", async (name, when) => {
    let killed = false;
    const act = async () => {
      await scene.app.kill("SIGKILL");
      killed = true;
    };
    scene.rig.github.state.faults.push({ when, times: 1, at: "after", status: 502, act });
    const issue = await scene.begin(`Killed after ${name}`, "quick");
    await until("the kill", () => killed);
    scene.app = await scene.rig.startApp();
    expect((await scene.finalComment(issue)).body).toContain("✅ **Run 1**");
    await until(
      "a ready pull request",
      async () => (await scene.pullOf(issue))[0]?.draft === false,
    );
    expect(await scene.pullOf(issue)).toHaveLength(1);
    expect(await scene.rig.github.comments(repository, issue)).toHaveLength(1);
    expect(await scene.subjects(issue)).toEqual(["Quick"]);
    const [pull] = await scene.pullOf(issue);
    const onHead = () =>
      scene.rig.github.checks(repository).filter((row) => row.head_sha === pull?.head.sha);
    await until("a green check", () => onHead().some((row) => row.conclusion === "success"));
    expect(onHead()).toHaveLength(1);
  });
});

test("the app killed with -9 again and again loses nothing and doubles nothing", async () => {
  const issue = await scene.begin("Killed app", "steady");
  for (const pause of [150, 700, 400, 900, 1_500]) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    await scene.restartApp();
  }
  const end = await scene.finalComment(issue);
  expect(end.body).toContain("✅ **Run 1**");
  expect(await scene.subjects(issue)).toEqual([
    "Step1",
    "Step2",
    "Step3",
    "Keep what run 1 left uncommitted",
  ]);
  expect(await scene.rig.github.comments(repository, issue)).toHaveLength(1);
  expect(await scene.pullOf(issue)).toHaveLength(1);
  await until("a ready pull request", async () => (await scene.pullOf(issue))[0]?.draft === false);
});
