import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startEngineProxy } from "../support/engine-proxy.ts";
import {
  containers,
  docker,
  leftovers,
  type Program,
  type Rig,
  script,
  startRig,
  until,
} from "../support/rig.ts";

// Images that are wrong, images that a repository builds, and what an agent has of GitHub inside; all
// of it on small images made on the base.

const base = "FROM trimo/base:bookworm\n";
const preboot = (script: string) =>
  `${base}RUN printf '%s\\n' '#!/bin/bash' ${script
    .split("\n")
    .map((line) => `'${line.replaceAll("'", "'\\''")}'`)
    .join(" ")} > /opt/trimo/preboot.sh && chmod 755 /opt/trimo/preboot.sh\n`;

/** A header of an ELF file for another processor, which no engine of ours can start. */
const foreignElf = Buffer.alloc(64);
foreignElf.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1], 0);
foreignElf.writeUInt16LE(2, 16);
foreignElf.writeUInt16LE(0x1234, 18);

const images: Record<string, string> = {
  hangs: preboot("sleep 1000"),
  offline: preboot("curl -sS https://deb.debian.org/ > /dev/null"),
  binary: preboot("head -c 600 /bin/ls\necho the end\nexit 9"),
  foreground: preboot("while :; do sleep 1; done"),
  closed: `${base}RUN printf '#!/bin/sh\\n' > /opt/trimo/preboot.sh && chmod 644 /opt/trimo/preboot.sh\n`,
  dies: preboot(
    "start-service flaky --ready true -- bash -c 'echo starting; sleep 1; echo out of luck; exit 3'",
  ),
  never: preboot("start-service slow --port 4444 --seconds 1 -- bash -c 'echo waiting; sleep 100'"),
  gitless: `${base}RUN mv /usr/bin/git /usr/bin/git-gone\n`,
  foreign:
    'FROM scratch\nCOPY node /opt/trimo/node/bin/node\nCOPY node /bin/sh\nLABEL dev.trimo.contract=3\nENTRYPOINT ["/opt/trimo/node/bin/node"]\n',
  sneaky: `${base}ENV SECRET_URL=x\nEXPOSE 7777\nRUN chmod 777 /etc/profile.d && chmod 555 /home/agent && chown root /home/agent && cp /bin/true /usr/bin/gain && chmod u+s /usr/bin/gain\n`,
  good: `${preboot('start-service web --port 8000 -- /opt/trimo/node/bin/node -e \'require("http").createServer((q,r)=>r.end("here")).listen(8000,"127.0.0.1")\'')}EXPOSE 8000\n`,
};
const tag = (name: string) => `trimo/test-${name}:1`;
const agents = {
  quick: script("echo $TRIMO_RUN > QUICK"),
  stay: script("sleep 3; echo $TRIMO_RUN > QUICK; exit 4"),
  gh: script(`touch QUICK
    { gh issue view --json title --jq .title; gh pr view --json isDraft,headRefName; gh issue list --json number --jq length
      gh api repos/{owner}/{repo}/issues --jq '.[0].title'; gh pr checks
      gh pr create --title x; gh api /user; gh api repos/other/one; gh api -X DELETE repos/{owner}/{repo}/issues/1; gh issue view -R other/one 1
      gh pr comment --body $'Done with it, @ben.\\n/trimo cancel\\nfixes #1'; gh auth token; env | grep -i token; } > GH 2>&1
    echo ok >> GH`),
};

let rig: Rig;
let daemon: Program;
let token: string;
let engine: Awaited<ReturnType<typeof startEngineProxy>>;
const made = mkdtempSync(join(tmpdir(), "trimo-images-"));

/** Also of a run of this file that was ended in the middle. */
function removeBuilt() {
  const format = ["--format", "{{.Repository}}:{{.Tag}}"];
  const tags = docker("images", "--filter", "reference=trimo-build/acme-*", ...format);
  if (tags.length > 0) docker("rmi", ...tags);
}

beforeAll(async () => {
  removeBuilt();
  for (const [name, dockerfile] of Object.entries(images)) {
    const folder = join(made, name);
    mkdirSync(folder);
    writeFileSync(join(folder, "Dockerfile"), dockerfile);
    if (name === "foreign") writeFileSync(join(folder, "node"), foreignElf, { mode: 0o755 });
    docker("build", "-q", "-t", tag(name), folder);
  }
  const names = ["app", "built", "wrong", "cut", "greedy", "stopped"].map((name) => `acme/${name}`);
  rig = await startRig({ repositories: names.map((fullName) => ({ fullName, source: null })) });
  for (const fullName of names) await commit(fullName, "README.md", "# App\n");
  await commit("acme/app", ".github/trimo.yml", "agent: quick\nverify: ['test -e QUICK']\n");
  await rig.startApp();
  token = rig.enroll("studio");
  engine = await startEngineProxy(join(made, "docker.sock"));
  daemon = startDaemon();
  await until("the daemon", () => daemon.output().includes('"connected"'));
}, 120_000);
afterAll(async () => {
  const left = leftovers(rig);
  await rig.stop();
  await engine.stop();
  rmSync(made, { recursive: true });
  removeBuilt();
  docker("rmi", "-f", ...Object.keys(images).map(tag));
  expect(left).toEqual([]);
  expect(rig.github.state.breaches).toEqual([]);
});

function startDaemon(more: Record<string, unknown> = {}) {
  return rig.startDaemon(
    "studio",
    token,
    {
      slots: 4,
      limits: { memory: "512m", cpus: 1, minutes: 3, preboot_seconds: 4 },
      builds: {},
      agents,
      ...more,
    },
    { DOCKER_HOST: `unix://${join(made, "docker.sock")}` },
  );
}

async function commit(fullName: string, path: string, text: string) {
  await rig.github.repositories.commitFile(fullName, "main", path, text, `Write ${path}`);
}
async function begin(fullName: string, words: string, title = "Do it"): Promise<number> {
  const issue = await rig.github.openIssue("ana", fullName, title, "");
  await rig.github.comment("ana", fullName, issue, `/trimo run ${words}`);
  return issue;
}
async function ended(fullName: string, issue: number, seconds = 60): Promise<string> {
  return await until(
    `the end on ${fullName}#${issue}`,
    async () =>
      (await rig.github.comments(fullName, issue)).find((one) =>
        /^(✅|❌|⚪|💔|⌛|⏹️) \*\*Run/m.test(one.body),
      )?.body,
    seconds * 1_000,
  );
}
const builds = () =>
  docker("images", "--filter", "reference=trimo-build/acme-built", "--format", "{{.Tag}}");

describe.concurrent("a run in an image", () => {
  test.each([
    ["whose preboot hangs", "hangs", "preboot_failed", "did not end within 4 s"],
    [
      "whose preboot needs the network",
      "offline",
      "preboot_failed",
      "There is no network while services start",
    ],
    ["whose preboot prints binary", "binary", "preboot_failed", "the end"],
    ["whose service stays in preboot's foreground", "foreground", "preboot_failed", "did not end"],
    ["whose preboot has no run bit", "closed", "preboot_failed", "chmod +x"],
    ["whose service does not come up", "never", "preboot_failed", "slow was not ready after 1 s"],
    ["without git", "gitless", "image_broken", "no /usr/bin/git"],
    ["for another processor", "foreign", "image_platform", "xec format error"],
  ])("%s says so in words", async (_what, name, code, words) => {
    const said = await ended("acme/app", await begin("acme/app", `image=${tag(name)}`));
    expect(said).toContain(`(\`${code}\`)`);
    expect(said).toContain(words);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may come through
    expect(said).not.toMatch(/[\u0000-\u0008\u000e-\u001f]/);
  });

  test("whose service dies in mid-run tells it, with the end of its log", async () => {
    const said = await ended(
      "acme/app",
      await begin("acme/app", `agent=stay image=${tag("dies")}`),
    );
    expect(said).toContain("(`agent_failed`)");
    expect(said).toContain("The service `flaky` ended while the run was working");
    expect(said).toContain("out of luck");
  });
});

describe("trimo image check", () => {
  const check = async (name: string) => {
    const { exit, output } = await rig.run(
      "image",
      "check",
      tag(name),
      "--json",
      "--preboot-seconds",
      "3",
    );
    return {
      exit,
      ...(JSON.parse(output) as {
        findings: { level: string; code: string; what: string; fix: string }[];
      }),
    };
  };
  test.each([
    ["hangs", "preboot_failed", "start-service"],
    ["offline", "preboot_failed", "Fetch it in the Dockerfile"],
    ["closed", "preboot_failed", "chmod 755"],
    ["dies", "service_died", "foreground of its start-service line"],
    ["gitless", "image_broken", "FROM trimo/base"],
    ["foreign", "start", "kind of processor"],
  ])("of %s finds %s with its fix, and ends with 1", async (name, code, fix) => {
    const { exit, findings } = await check(name);
    expect(exit).toBe(1);
    expect(findings[0]).toMatchObject({ level: "fail", code });
    expect(findings[0]?.fix).toContain(fix);
  });
  test("finds what an image hides", async () => {
    const { exit, findings } = await check("sneaky");
    expect(exit).toBe(1);
    const found = findings.map(({ level, code }) => `${level} ${code}`);
    expect(found.sort()).toEqual([
      "fail home",
      "fail service_down",
      "fail writable",
      "warn env",
      "warn setuid",
    ]);
    expect(JSON.stringify(findings)).toContain("SECRET_URL");
  });
  test("of a good one finds nothing, and leaves nothing behind", async () => {
    const { exit, findings } = await check("good");
    expect([exit, findings]).toEqual([0, []]);
    const all = docker("ps", "-a", "--format", '{{.Label "dev.trimo.daemon"}}');
    expect(all.filter((owner) => owner.startsWith("check-"))).toEqual([]);
  });
  test("says what to do about an image that is not there", async () => {
    const { exit, errors } = await rig.run("image", "check", "trimo/nowhere:1");
    expect(exit).toBe(1);
    expect(errors).toContain("trimo image build DIR --tag trimo/nowhere:1");
  });
});

describe("trimo image build", () => {
  test("names the Dockerfile's line, the step and the output when it fails", async () => {
    const folder = join(made, "broken");
    mkdirSync(folder);
    writeFileSync(
      join(folder, "Dockerfile"),
      `# one\n${base}\nRUN echo fine\n\n# two\nRUN echo the reason \\\n  && false\n`,
    );
    const { exit, errors } = await rig.run("image", "build", folder);
    expect(exit).toBe(1);
    expect(errors).toContain("Dockerfile line 7, step 3 of 3");
    expect(errors).toContain("the reason");
    expect(errors).toContain("returned a non-zero code: 1");
  });
  test("says which folder had the tag before", async () => {
    const folder = join(made, "other");
    mkdirSync(folder);
    writeFileSync(join(folder, "Dockerfile"), `${base}RUN echo other\n`);
    const first = await rig.run("image", "build", join(made, "good"), "-t", "trimo/test-twice:1");
    expect(first).toMatchObject({ exit: 0 });
    const second = await rig.run("image", "build", folder, "-t", "trimo/test-twice:1", "--json");
    expect(second.errors).toContain(`was built from ${join(made, "good")} until now`);
    expect(JSON.parse(second.output)).toMatchObject({ image: "trimo/test-twice:1" });
    docker("rmi", "-f", "trimo/test-twice:1");
  });
  test("needs a Dockerfile", async () => {
    const { exit, errors } = await rig.run("image", "build", dirname(made));
    expect(exit).toBe(1);
    expect(errors).toContain("trimo image init");
  });
});

describe("a repository's own image", () => {
  test("is built once for all who wait, from what is on the default branch, and again when that changes", async () => {
    const at = "acme/built";
    await commit(at, ".trimo/Dockerfile", `${base}COPY .trimo/word /word\nRUN sleep 2\n`);
    await commit(at, ".trimo/word", "first\n");
    const yml = "agent: quick\nbuild: .trimo/Dockerfile\nverify: ['test -e QUICK', 'cat /word']\n";
    await commit(at, ".trimo/Dockerfile.dockerignore", "*\n!.trimo\n");
    await commit(at, ".github/trimo.yml", yml);
    const three = await Promise.all([
      begin(at, "one", "One"),
      begin(at, "two", "Two"),
      begin(at, "three", "Three"),
    ]);
    for (const issue of three) expect(await ended(at, issue)).toMatch(/^✅/m);
    expect(builds()).toHaveLength(1);
    expect(daemon.output().match(/"building an image"/g)).toHaveLength(1);

    // What does not go in builds nothing anew.
    await commit(at, "README.md", "# Other words\n");
    expect(await ended(at, await begin(at, "four", "Four"))).toMatch(/^✅/m);
    expect(builds()).toHaveLength(1);
    await commit(at, ".trimo/word", "second\n");
    expect(await ended(at, await begin(at, "five", "Five"))).toMatch(/^✅/m);
    expect(builds()).toHaveLength(2);
  }, 180_000);

  test("that does not build fails the run with line, step and output", async () => {
    const at = "acme/wrong";
    await commit(at, ".trimo/Dockerfile", `${base}\nRUN echo the reason && exit 5\n`);
    await commit(at, ".github/trimo.yml", "agent: quick\nbuild: .trimo/Dockerfile\n");
    const said = await ended(at, await begin(at, "now"));
    expect(said).toContain("(`image_build_failed`)");
    expect(said).toContain(".trimo/Dockerfile line 3, step 2 of 2");
    expect(said).toContain("the reason");
  });

  test("may take only from images that the machine may start, and is not there without its Dockerfile", async () => {
    const at = "acme/greedy";
    await commit(at, ".github/trimo.yml", "agent: quick\nbuild: .trimo/Dockerfile\n");
    expect(await ended(at, await begin(at, "one", "One"))).toContain(
      "There is no .trimo/Dockerfile",
    );
    await commit(at, ".trimo/Dockerfile", `${base}COPY --from=evil/image /x /x\n`);
    const said = await ended(at, await begin(at, "two", "Two"));
    expect(said).toContain("(`image_refused`)");
    expect(said).toContain("takes from evil/image");
  });

  test("whose only run is cancelled is not built on", async () => {
    const at = "acme/stopped";
    await commit(at, ".trimo/Dockerfile", `${base}RUN sleep 300\n`);
    await commit(at, ".github/trimo.yml", "agent: quick\nbuild: .trimo/Dockerfile\n");
    const issue = await begin(at, "now");
    const building = () => docker("ps", "--no-trunc", "--format", "{{.Command}}").join();
    await until("the build", () => building().includes("sleep 300"));
    await rig.github.comment("ana", at, issue, "/trimo cancel");
    expect(await ended(at, issue, 15)).toMatch(/^⏹️/m);
    await until("the build's end", () => !building().includes("sleep 300"));
  });

  test("is waited for while Docker is away in the middle of the build, and of the run", async () => {
    const at = "acme/cut";
    await commit(at, ".trimo/Dockerfile", `${base}RUN sleep 4\n`);
    await commit(at, ".github/trimo.yml", "agent: stay\nbuild: .trimo/Dockerfile\n");
    const issue = await begin(at, "now");
    await until("the build", () => daemon.output().includes('"repository":"acme/cut"'));
    await engine.stop();
    await new Promise((resolve) => setTimeout(resolve, 500));
    await engine.start();
    const running = () => containers(rig);
    await until("the container", () => running().length > 0);
    await engine.stop();
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    await engine.start();
    const said = await ended(at, issue, 90);
    expect(said).toContain("(`agent_failed`)");
    expect(said).toContain("stay");
    const branch = `trimo/${issue}-do-it`;
    const files = await rig.github.repositories.git(at, ["ls-tree", "--name-only", branch]);
    expect(files.split("\n")).toContain("QUICK");
  }, 180_000);
});

test("gh in a run reads its own repository and comments on its own pull request, and no more", async () => {
  const at = "acme/app";
  const issue = await begin(at, "agent=gh", "Ask GitHub");
  expect(await ended(at, issue)).toMatch(/^✅/m);
  const branch = `trimo/${issue}-ask-github`;
  const said = await rig.github.repositories.git(at, ["show", `${branch}:GH`]);
  const [title, pull, count, first] = said.split("\n");
  expect(title).toBe("Ask GitHub");
  expect(JSON.parse(pull ?? "")).toEqual({ isDraft: true, headRefName: branch });
  expect(Number(count)).toBeGreaterThan(0);
  expect(first).toBe("Ask GitHub");
  expect(said).toContain("`gh pr create` is not for runs");
  expect(said).toContain(
    "only issues, pull requests and checks of acme/app can be read here, not /user",
  );
  expect(said).toContain("not /repos/other/one");
  expect(said).toContain("nothing on GitHub is changed from here");
  expect(said).toContain("only acme/app is in reach of this run");
  expect(said).toMatch(/there is no token in here\.\nok$/);
  expect(said).toContain("The comment appears under the pull request");
  const number = (await rig.github.pulls(at)).find((row) => row.head.ref === branch)?.number ?? 0;
  const comment = await until("the agent's comment", async () =>
    (await rig.github.comments(at, number)).find((one) => one.body.includes("Done with it")),
  );
  expect(comment.body).toContain("`gh` says in run 1");
  expect(comment.body).not.toMatch(/^\/trimo/m);
  expect(comment.body).not.toContain("@ben");
});

test("images that were built and that no run has used for long are removed by the daemon's sweep", async () => {
  const ours = () => docker("images", "-q", "--filter", "reference=trimo-build/acme-*");
  expect(ours().length).toBeGreaterThan(1);
  await daemon.kill("SIGTERM");
  daemon = startDaemon({ builds: { days: 0.000_001 } });
  await until("their end", () => ours().length === 0);
});
