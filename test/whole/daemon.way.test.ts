import { execFileSync, spawnSync } from "node:child_process";
import { truncateSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { pathsUnder } from "../support/files.ts";
import { containers, docker, leftovers, type Program, script, until } from "../support/rig.ts";
import { agents, repository, type Scene, startScene } from "../support/scene.ts";

// The daemon killed at each stage, drained and doubled; images that no run can use; containers that
// somebody ends.

const slowImage = "trimo/test-slow-preboot:1";
const badImage = "trimo/test-bad-preboot:1";
const foreignImage = "trimo/test-no-contract:1";
const yml = {
  slots: 4,
  limits: { memory: "512m", cpus: 1, minutes: 3 },
  agents: {
    ...agents,
    endless: script(
      "trap '' TERM; echo $$ > PID; git add -A; git commit -qm Begin; (sleep 1000 &) ; while :; do sleep 1; done",
    ),
  },
};
let scene: Scene;

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
  scene = await startScene(yml);
});
afterAll(async () => {
  expect(scene.rig.github.state.breaches).toEqual([]);
  await scene.rig.stop();
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

describe("a daemon killed with -9", () => {
  const restart = async () => {
    await scene.daemon.kill("SIGKILL");
    scene.daemon = scene.startDaemon();
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
    const issue = await scene.begin(`Killed at ${name}`, "steady");
    await until(mark, async () => (await scene.story(issue)).includes(mark));
    await restart();
    const end = await scene.finalComment(issue);
    expect(end.body).toContain("✅ **Run 1**");
    expect(await scene.subjects(issue)).toEqual([
      "Step1",
      "Step2",
      "Step3",
      "Keep what run 1 left uncommitted",
    ]);
    expect(await scene.rig.github.comments(repository, issue)).toHaveLength(1);
    await until("nothing left behind", () => leftovers(scene.rig).length === 0);
  });

  test("whose record was torn by it goes on as well", async () => {
    const issue = await scene.begin("Torn record", "steady");
    await until("its agent", async () => (await scene.story(issue)).includes("agent: step 2"));
    await scene.daemon.kill("SIGKILL");
    const records = pathsUnder(scene.rig.folder).filter((path) => path.endsWith("/record.json"));
    expect(records).toHaveLength(1);
    for (const path of records) truncateSync(path);
    scene.daemon = scene.startDaemon();
    expect((await scene.finalComment(issue)).body).toContain("✅ **Run 1**");
    expect(await scene.subjects(issue)).toHaveLength(4);
    await until("nothing left behind", () => leftovers(scene.rig).length === 0);
  });

  test("in preboot goes on as well", async () => {
    const issue = await scene.rig.github.openIssue("ana", repository, "Slow services", "");
    await scene.rig.github.comment(
      "ana",
      repository,
      issue,
      `/trimo run agent=steady image=${slowImage}`,
    );
    await until("preboot", async () => (await scene.story(issue)).includes("stage preboot"));
    await restart();
    expect((await scene.finalComment(issue)).body).toContain("✅ **Run 1**");
  });
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
    const issue = await scene.rig.github.openIssue("ana", repository, `Image ${code}`, "");
    await scene.rig.github.comment("ana", repository, issue, `/trimo run image=${name}`);
    const end = await scene.finalComment(issue);
    expect(end.body).toContain("❌ **Run 1**");
    expect(end.body).toContain(code);
    expect(end.body).toContain(words);
    await until("nothing left behind", () => leftovers(scene.rig).length === 0);
  });
});

test("an agent that ignores SIGTERM and leaves children is gone soon after the command", async () => {
  const issue = await scene.begin("Endless", "endless");
  await until("its commit", async () => (await scene.story(issue)).includes("pushed"));
  const askedAt = Date.now();
  await scene.rig.github.comment("ana", repository, issue, "/trimo cancel");
  await until("the container's end", () => leftovers(scene.rig).length === 0);
  // It would go on for three minutes.
  expect(Date.now() - askedAt).toBeLessThan(90_000);
  expect((await scene.finalComment(issue)).body).toContain("cancelled by ana");
});

test("a daemon that is given a new token under a run goes on with it when it is started with that", async () => {
  const issue = await scene.begin("New token", "steady");
  await until("its agent", async () => (await scene.story(issue)).includes("agent: step 1"));
  const token = scene.rig.enroll("studio", "--again");
  await until("that the app knows the old one no more", () =>
    scene.daemon.output().includes("the app refuses this daemon"),
  );
  await scene.daemon.kill("SIGKILL");
  scene.daemon = scene.startDaemon({}, { TRIMO_TOKEN: token });
  scene.token = token;
  expect((await scene.finalComment(issue)).body).toContain("✅ **Run 1**");
  expect(await scene.subjects(issue)).toHaveLength(4);
});

test("a container that somebody removes loses no commit, and the run says what happened", async () => {
  const issue = await scene.begin("Removed", "endless");
  await until("its commit", async () => (await scene.story(issue)).includes("pushed"));
  docker("rm", "-f", ...containers(scene.rig));
  expect((await scene.finalComment(issue)).body).toContain("container_died");
  expect(await scene.subjects(issue)).toEqual(["Begin"]);
  await until("nothing left behind", () => leftovers(scene.rig).length === 0);
});

test("a container that is stopped as Docker does when it ends keeps its work, and the run says so", async () => {
  const issue = await scene.begin("Stopped container", "steady");
  await until("its agent", async () => (await scene.story(issue)).includes("agent: step 2"));
  docker("kill", "--signal", "SIGTERM", ...containers(scene.rig));
  const end = await scene.finalComment(issue);
  expect(end.body).toContain("the container was stopped from outside");
  expect(end.body).toContain("`/trimo continue` goes on from there");
  expect(await scene.subjects(issue)).toContain("Step1");
  await until("nothing left behind", () => leftovers(scene.rig).length === 0);
});

test("a container that is killed has its uncommitted work rescued from the volume", async () => {
  const issue = await scene.begin("Killed container", "endless");
  await until("its commit", async () => (await scene.story(issue)).includes("pushed"));
  const [id = ""] = containers(scene.rig);
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
  expect((await scene.finalComment(issue)).body).toContain("container_died");
  expect(await scene.subjects(issue)).toEqual(["Begin", "Keep what run 1 left uncommitted"]);
  const [pull] = await scene.pullOf(issue);
  expect(
    await scene.rig.github.repositories.git(repository, ["show", `${pull?.head.sha}:PRECIOUS`]),
  ).toBe("precious");
});

describe("a container that waits for its daemon in vain, and ends", () => {
  const alone = "echo precious > PRECIOUS; sleep 3; echo more > MORE";
  const quickly = { slots: 1, away_minutes: 0.05, limits: yml.limits };
  const only = { alone: script(alone) };
  let token: string;
  let other: Program;
  const start = () => scene.rig.startDaemon("brief", token, { ...quickly, agents: only });
  beforeAll(async () => {
    token = scene.rig.enroll("brief");
    other = start();
    await until("the daemon", () => other.output().includes('"connected"'));
  });
  afterAll(() => other.kill("SIGTERM"));

  /** Kills the daemon under the agent's hands, and waits for the container's own end. */
  async function abandon(title: string): Promise<number> {
    const issue = await scene.begin(title, "alone");
    const inside = (id: string, ...command: string[]) =>
      spawnSync("docker", ["exec", id, ...command], { encoding: "utf8" });
    const id = await until("its file", () =>
      containers(scene.rig).find(
        (one) => inside(one, "test", "-e", "/workspace/PRECIOUS").status === 0,
      ),
    );
    await other.kill("SIGKILL");
    await until("the container's end", () =>
      inside(id, "cat", "/var/lib/trimo/journal").stdout.includes('"pushed":false'),
    );
    other = start();
    return issue;
  }

  test("has its uncommitted work rescued when the daemon is back", async () => {
    const issue = await abandon("Left alone");
    const end = await scene.finalComment(issue);
    expect(end.body).toContain("container_died");
    expect(end.body).toContain("could not hand its work to the daemon");
    expect(await scene.subjects(issue)).toEqual(["Keep what run 1 left uncommitted"]);
    const [pull] = await scene.pullOf(issue);
    const { repositories } = scene.rig.github;
    for (const [file, text] of [
      ["PRECIOUS", "precious"],
      ["MORE", "more"],
    ])
      expect(await repositories.git(repository, ["show", `${pull?.head.sha}:${file}`])).toBe(text);
    await until("nothing left behind", () => leftovers(scene.rig).length === 0);
  });
});

test("SIGTERM drains: the run under way is finished, the next one waits for another daemon", async () => {
  const under = await scene.begin("Under way", "steady");
  await until("the agent", async () => (await scene.story(under)).includes("stage agent"));
  const drains = () => scene.daemon.output().match(/draining:/g)?.length ?? 0;
  const before = drains();
  const draining = scene.daemon.kill("SIGTERM");
  await until("the drain", () => drains() > before);
  const waiting = await scene.begin("Waiting", "quick");
  await draining;
  expect(scene.daemon.process.exitCode).toBe(0);
  expect((await scene.finalComment(under)).body).toContain("✅ **Run 1**");
  const comment = await until(
    "its comment",
    async () => (await scene.rig.github.comments(repository, waiting))[0],
  );
  expect(comment.body).toContain("⏳");
  scene.daemon = scene.startDaemon();
  expect((await scene.finalComment(waiting)).body).toContain("✅ **Run 1**");
});

test("two daemons that claim at once execute each run once", async () => {
  const other = scene.rig.startDaemon("mini", scene.rig.enroll("mini"), { ...yml, slots: 2 });
  await until("the other daemon", () => other.output().includes('"connected"'));
  const issues = await Promise.all(
    ["A", "B", "C", "D", "E", "F"].map((title) => scene.begin(title, "quick")),
  );
  for (const issue of issues) {
    const end = await scene.finalComment(issue);
    expect(end.body).toContain("✅ **Run 1**");
    expect(await scene.subjects(issue)).toEqual(["Quick"]);
    expect(await scene.story(issue)).toContain("attempt 1");
  }
  await other.kill("SIGTERM");
});

test("a repository that no daemon serves waits, and is never touched", async () => {
  await scene.daemon.kill("SIGTERM");
  const connected = () => scene.daemon.output().match(/"connected"/g)?.length ?? 0;
  const before = connected();
  scene.daemon = scene.startDaemon({ repositories: ["other/*"] });
  await until("the daemon", () => connected() > before);
  const issue = await scene.begin("Not served", "quick");
  await until("its comment", async () => (await scene.story(issue)).includes("⏳ queued"));
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(await scene.story(issue)).toContain("⏳ queued");
  expect(containers(scene.rig)).toEqual([]);
});
