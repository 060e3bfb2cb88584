import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  containers,
  docker,
  leftovers,
  type Program,
  type Rig,
  startRig,
  until,
} from "../support/rig.ts";

const repository = "acme/app";
const slowImage = "trimo/test-slow-preboot:1";
const badImage = "trimo/test-bad-preboot:1";
const foreignImage = "trimo/test-no-contract:1";

let rig: Rig;
let app: Program;
let daemon: Program;
let token: string;

const yml = {
  slots: 4,
  limits: { memory: "512m", cpus: 1, minutes: 3 },
  agents: {
    quick: {
      adapter: "script",
      command: ["bash", "-c", "echo $TRIMO_RUN > QUICK; git add -A; git commit -qm Quick"],
    },
    steady: {
      adapter: "script",
      command: [
        "bash",
        "-c",
        "for i in 1 2 3; do echo $i > STEP$i; git add -A; git commit -qm Step$i; echo ::notice::step $i; sleep 1; done; echo last > LAST",
      ],
    },
    endless: {
      adapter: "script",
      command: [
        "bash",
        "-c",
        "trap '' TERM; echo $$ > PID; git add -A; git commit -qm Begin; (sleep 1000 &) ; while :; do sleep 1; done",
      ],
    },
  },
};

beforeAll(async () => {
  image(
    slowImage,
    "FROM trimo/base:bookworm\nRUN printf '#!/bin/sh\\nsleep 2\\n' > /opt/trimo/preboot.sh && chmod 755 /opt/trimo/preboot.sh\n",
  );
  image(
    badImage,
    "FROM trimo/base:bookworm\nRUN printf '#!/bin/sh\\necho the port 5432 is taken >&2\\nexit 7\\n' > /opt/trimo/preboot.sh && chmod 755 /opt/trimo/preboot.sh\n",
  );
  image(foreignImage, "FROM scratch\nCOPY Dockerfile /\n");
  rig = await startRig({});
  const { repositories } = rig.github;
  await repositories.commitFile(repository, "main", "README.md", "# App\n", "Begin");
  await repositories.commitFile(
    repository,
    "main",
    ".github/trimo.yml",
    "agent: quick\nverify: ['sleep 1']\n",
    "Configure",
  );
  app = await rig.startApp();
  token = rig.enroll("studio");
  daemon = rig.startDaemon("studio", token, yml);
  await until("the daemon", () => daemon.output().includes('"connected"'));
});
afterAll(async () => {
  expect(rig.github.state.breaches).toEqual([]);
  await rig.stop();
  docker("rmi", "-f", slowImage, badImage, foreignImage);
});

function image(tag: string, dockerfile: string) {
  execFileSync("docker", ["build", "-q", "-t", tag, "-"], {
    input: dockerfile.includes("COPY") ? undefined : dockerfile,
    stdio: ["pipe", "ignore", "inherit"],
    ...(dockerfile.includes("COPY") ? context(dockerfile) : {}),
  });
}
function context(dockerfile: string) {
  const folder = execFileSync("mktemp", ["-d"]).toString().trim();
  execFileSync("tee", [`${folder}/Dockerfile`], {
    input: dockerfile,
    stdio: ["pipe", "ignore", "inherit"],
  });
  return { input: execFileSync("tar", ["-c", "-C", folder, "."]) };
}

async function finalComment(issue: number, number = 1) {
  return await until(
    `run ${number}'s end on #${issue}`,
    async () =>
      (await rig.github.comments(repository, issue)).find((one) =>
        new RegExp(`^(✅|❌|⚪|💔|⌛|⏹️) \\*\\*Run ${number}\\*\\*`, "m").test(one.body),
      ),
    90_000,
  );
}
const pullOf = async (issue: number) =>
  (await rig.github.pulls(repository)).filter((pull) =>
    pull.head.ref.startsWith(`trimo/${issue}-`),
  );
async function begin(title: string, agent: string): Promise<number> {
  const issue = await rig.github.openIssue("ana", repository, title, "");
  await rig.github.label("ana", repository, issue, `trimo:${agent}`);
  return issue;
}
/** The text of a run's page, by which a test knows where it is. */
async function story(issue: number): Promise<string> {
  const comments = await rig.github.comments(repository, issue);
  const id = /trimo:run=(\w+)/.exec(comments[0]?.body ?? "")?.[1];
  if (!id) return "";
  return await fetch(`${rig.appUrl}/runs/${id}`).then(
    (answer) => answer.text(),
    () => "",
  );
}
async function linear(issue: number, subjects: string[]) {
  const [pull] = await pullOf(issue);
  const log = await rig.github.repositories.git(repository, [
    "log",
    "--reverse",
    "--format=%s",
    `main..${pull?.head.sha}`,
  ]);
  expect(log.split("\n").slice(1)).toEqual(subjects);
}

describe("GitHub", () => {
  test("sending one delivery five times at once starts one run", async () => {
    rig.github.state.deliveryFault = "double";
    const issue = await begin("Five times", "quick");
    rig.github.state.deliveryFault = "none";
    await finalComment(issue);
    const comments = await rig.github.comments(repository, issue);
    expect(comments).toHaveLength(1);
    expect(await pullOf(issue)).toHaveLength(1);
  });

  test("answering 502 after it did what was asked leaves one branch, pull request, check run and comment", async () => {
    const { state } = rig.github;
    for (const door of ["git/commits", "git/refs", "pulls", "check-runs", "issues/\\d+/comments"])
      state.faults.push({
        when: new RegExp(`^POST /repos/acme/app/${door}$`),
        times: 1,
        at: "after",
        status: 502,
      });
    const issue = await begin("Bad gateway", "quick");
    const end = await finalComment(issue);
    expect(end.body).toContain("✅ **Run 1**");
    expect(state.faults.every((fault) => fault.times === 0)).toBe(true);
    state.faults.length = 0;
    expect(await rig.github.comments(repository, issue)).toHaveLength(1);
    const pulls = await pullOf(issue);
    expect(pulls).toHaveLength(1);
    expect(pulls[0]?.head.ref).toBe(`trimo/${issue}-bad-gateway`);
    const shas = rig.github
      .checks(repository)
      .filter((row) => end.body.includes(row.external_id))
      .map((row) => row.head_sha);
    expect(new Set(shas).size).toBe(shas.length);
  });

  test("finding the app away is asked for the delivery again when it is back", async () => {
    await app.kill("SIGKILL");
    const issue = await begin("Nobody home", "quick");
    await until("the failed delivery", () =>
      rig.github.state.deliveries.some((row) => row.action === "labeled" && row.status === 502),
    );
    app = await rig.startApp();
    expect((await finalComment(issue)).body).toContain("✅ **Run 1**");
    const guids = rig.github.state.deliveries.filter((row) => row.body.includes("Nobody home"));
    expect(guids.some((row) => row.status === 202)).toBe(true);
    expect(await rig.github.comments(repository, issue)).toHaveLength(1);
  });

  test("refusing for a while with 503 and a secondary limit only delays", async () => {
    const { state } = rig.github;
    state.faults.push({ when: /^POST .*check-runs$/, times: 2, at: "before", status: 503 });
    state.faults.push({
      when: /^POST .*comments$/,
      times: 1,
      at: "before",
      status: 403,
      headers: { "retry-after": "2" },
    });
    const issue = await begin("Limits", "quick");
    expect((await finalComment(issue)).body).toContain("✅ **Run 1**");
    expect(await rig.github.comments(repository, issue)).toHaveLength(1);
    state.faults.length = 0;
  });
});

describe("a daemon killed with -9", () => {
  const restart = async () => {
    await daemon.kill("SIGKILL");
    daemon = rig.startDaemon("studio", token, yml);
  };
  const stages: [string, string][] = [
    ["claimed", "claimed by"],
    ["preparing", "stage preparing"],
    ["cloning", "stage cloning"],
    ["agent", "stage agent"],
    ["agent, in the middle", "agent: step 2"],
    ["committing", "stage committing"],
    ["verifying", "stage verifying"],
    ["pushing", "stage pushing"],
  ];
  test.each(stages)("at %s goes on with the run when it is back", async (name, mark) => {
    const issue = await begin(`Killed at ${name}`, "steady");
    await until(mark, async () => (await story(issue)).includes(mark));
    await restart();
    const end = await finalComment(issue);
    expect(end.body).toContain("✅ **Run 1**");
    await linear(issue, ["Step1", "Step2", "Step3", "Keep what run 1 left uncommitted"]);
    expect(await rig.github.comments(repository, issue)).toHaveLength(1);
    await until("nothing left behind", () => leftovers(rig).length === 0);
  });

  test("in preboot goes on as well", async () => {
    const issue = await rig.github.openIssue("ana", repository, "Slow services", "");
    await rig.github.comment(
      "ana",
      repository,
      issue,
      `/trimo run agent=steady image=${slowImage}`,
    );
    await until("preboot", async () => {
      const comments = (await rig.github.comments(repository, issue)).filter(
        (one) => one.user.login === "trimo[bot]",
      );
      const id = /trimo:run=(\w+)/.exec(comments[0]?.body ?? "")?.[1];
      return (
        id && (await (await fetch(`${rig.appUrl}/runs/${id}`)).text()).includes("stage preboot")
      );
    });
    await restart();
    expect((await finalComment(issue)).body).toContain("✅ **Run 1**");
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
      await app.kill("SIGKILL");
      killed = true;
    };
    rig.github.state.faults.push({ when, times: 1, at: "after", status: 502, act });
    const issue = await begin(`Killed after ${name}`, "quick");
    await until("the kill", () => killed);
    app = await rig.startApp();
    expect((await finalComment(issue)).body).toContain("✅ **Run 1**");
    await until("a ready pull request", async () => (await pullOf(issue))[0]?.draft === false);
    expect(await pullOf(issue)).toHaveLength(1);
    expect(await rig.github.comments(repository, issue)).toHaveLength(1);
    await linear(issue, ["Quick"]);
    const [pull] = await pullOf(issue);
    const onHead = () =>
      rig.github.checks(repository).filter((row) => row.head_sha === pull?.head.sha);
    await until("a green check", () => onHead().some((row) => row.conclusion === "success"));
    expect(onHead()).toHaveLength(1);
  });
});

test("the app killed with -9 again and again loses nothing and doubles nothing", async () => {
  const issue = await begin("Killed app", "steady");
  for (const pause of [150, 700, 400, 900, 1_500]) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    await app.kill("SIGKILL");
    app = await rig.startApp();
  }
  const end = await finalComment(issue);
  expect(end.body).toContain("✅ **Run 1**");
  await linear(issue, ["Step1", "Step2", "Step3", "Keep what run 1 left uncommitted"]);
  expect(await rig.github.comments(repository, issue)).toHaveLength(1);
  expect(await pullOf(issue)).toHaveLength(1);
  await until("a ready pull request", async () => (await pullOf(issue))[0]?.draft === false);
});

describe("an image", () => {
  const cases: [string, string, string, string][] = [
    ["that does not exist", "trimo/nowhere:1", "image_missing", "not on this machine"],
    ["without the contract", foreignImage, "image_no_contract", "FROM trimo/base"],
    ["whose preboot fails", badImage, "preboot_failed", "the port 5432 is taken"],
    ["that the machine may not start", "evil/miner:1", "image_refused", "daemon.yml"],
  ];
  test.each(
    cases,
  )("%s fails the run with its code, the output's end and what to do", async (_name, name, code, words) => {
    const issue = await rig.github.openIssue("ana", repository, `Image ${code}`, "");
    await rig.github.comment("ana", repository, issue, `/trimo run image=${name}`);
    const end = await finalComment(issue);
    expect(end.body).toContain("❌ **Run 1**");
    expect(end.body).toContain(code);
    expect(end.body).toContain(words);
    await until("nothing left behind", () => leftovers(rig).length === 0);
  });
});

test("an agent that ignores SIGTERM and leaves children is gone within five seconds of the command", async () => {
  const issue = await begin("Endless", "endless");
  await until("its commit", async () => (await story(issue)).includes("pushed"));
  const askedAt = Date.now();
  await rig.github.comment("ana", repository, issue, "/trimo cancel");
  await until("the container's end", () => leftovers(rig).length === 0);
  expect(Date.now() - askedAt).toBeLessThan(15_000);
  expect((await finalComment(issue)).body).toContain("cancelled by ana");
});

test("a container that somebody removes loses no commit, and the run says what happened", async () => {
  const issue = await begin("Removed", "endless");
  await until("its commit", async () => (await story(issue)).includes("pushed"));
  docker("rm", "-f", ...containers(rig));
  expect((await finalComment(issue)).body).toContain("container_died");
  await linear(issue, ["Begin"]);
  await until("nothing left behind", () => leftovers(rig).length === 0);
});

test("a container that is killed has its uncommitted work rescued from the volume", async () => {
  const issue = await begin("Killed container", "endless");
  await until("its commit", async () => (await story(issue)).includes("pushed"));
  const [id = ""] = containers(rig);
  execFileSync("docker", [
    "exec",
    "-u",
    "1000",
    id,
    "sh",
    "-c",
    "echo precious > /workspace/PRECIOUS",
  ]);
  docker("kill", id);
  expect((await finalComment(issue)).body).toContain("container_died");
  await linear(issue, ["Begin", "Keep what run 1 left uncommitted"]);
  const [pull] = await pullOf(issue);
  expect(
    await rig.github.repositories.git(repository, ["show", `${pull?.head.sha}:PRECIOUS`]),
  ).toBe("precious");
});

test("SIGTERM drains: the run under way is finished, the next one waits for another daemon", async () => {
  const under = await begin("Under way", "steady");
  await until("the agent", async () => (await story(under)).includes("stage agent"));
  const drains = () => daemon.output().match(/draining:/g)?.length ?? 0;
  const before = drains();
  const draining = daemon.kill("SIGTERM");
  await until("the drain", () => drains() > before);
  const waiting = await begin("Waiting", "quick");
  await draining;
  expect(daemon.process.exitCode).toBe(0);
  expect((await finalComment(under)).body).toContain("✅ **Run 1**");
  const comment = await until(
    "its comment",
    async () => (await rig.github.comments(repository, waiting))[0],
  );
  expect(comment.body).toContain("⏳");
  daemon = rig.startDaemon("studio", token, yml);
  expect((await finalComment(waiting)).body).toContain("✅ **Run 1**");
});

test("two daemons that claim at once execute each run once", async () => {
  const other = rig.startDaemon("mini", rig.enroll("mini"), { ...yml, slots: 2 });
  await until("the other daemon", () => other.output().includes('"connected"'));
  const issues = await Promise.all(
    ["A", "B", "C", "D", "E", "F"].map((title) => begin(title, "quick")),
  );
  for (const issue of issues) {
    const end = await finalComment(issue);
    expect(end.body).toContain("✅ **Run 1**");
    await linear(issue, ["Quick"]);
    expect(await story(issue)).toContain("attempt 1");
  }
  await other.kill("SIGTERM");
});

test("a repository that no daemon serves waits, and is never touched", async () => {
  await daemon.kill("SIGTERM");
  const connected = () => daemon.output().match(/"connected"/g)?.length ?? 0;
  const before = connected();
  daemon = rig.startDaemon("studio", token, { ...yml, repositories: ["other/*"] });
  await until("the daemon", () => connected() > before);
  const issue = await begin("Not served", "quick");
  await until("its comment", async () => (await story(issue)).includes("⏳ queued"));
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(await story(issue)).toContain("⏳ queued");
  expect(containers(rig)).toEqual([]);
});
