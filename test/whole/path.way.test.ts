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
/** What takes two seconds on an idle machine, and the agent that is not stopped a minute. */
const busyMs = 50_000;
let rig: Rig;
let daemon: Program;

/** Prints what the container is and waits for /workspace/go at most 5 min, so that a test can look. */
const looker =
  "echo ::notice::Looking; grep Cap /proc/self/status > CAPS; id -u >> CAPS; cat $TRIMO_PROMPT_FILE > PROMPT; git add -A; git commit -qm 'Look around'; for i in $(seq 6000); do [ -e go ] && break; sleep 0.05; done; rm -f go";

beforeAll(async () => {
  rig = await startRig({});
  const verify = "verify:\n  - test ! -e BROKEN\n  - git log -1 --format=%s\n";
  await rig.configure(repository, `agent: hello\n${verify}`);
  await rig.startApp();
  daemon = rig.startDaemon("studio", rig.enroll("studio"), {
    slots: 3,
    limits: { memory: "512m", cpus: 1, pids: 200, minutes: 5 },
    agents: {
      hello: {
        adapter: "script",
        command: [
          "bash",
          "-c",
          "echo ::notice::Saying hello; sleep 1; date +%N > HELLO; git add HELLO; git commit -qm 'Say hello'; echo rest > REST",
        ],
      },
      look: { adapter: "script", command: ["bash", "-c", looker] },
      idle: { adapter: "script", command: ["true"] },
      broken: {
        adapter: "script",
        command: [
          "bash",
          "-c",
          "touch BROKEN; echo 'the reason' > WHY; git add -A; git commit -qm Break",
        ],
      },
      liar: {
        adapter: "script",
        command: [
          "bash",
          "-c",
          "echo 'exit 0' | tee ~/.bash_profile > ~/.bashrc; touch BROKEN; git add -A; git commit -qm Lie",
        ],
      },
      fail: { adapter: "script", command: ["bash", "-c", "echo it broke at line 3; exit 3"] },
      slow: {
        adapter: "script",
        command: [
          "bash",
          "-c",
          "echo $TRIMO_RUN > MINE; git add MINE; git commit -qm Mine; sleep 10; ls | sort > FILES; git add -A; git commit -qm Files; echo ok > HELLO",
        ],
      },
    },
  });
  await until("the daemon", () => daemon.output().includes('"connected"'));
});
afterAll(async () => {
  expect(rig.github.state.breaches).toEqual([]);
  await rig.stop();
});

async function pullOf(issue: number) {
  return await until("a pull request", async () =>
    (await rig.github.pulls(repository)).find((pull) => pull.body?.includes(`Closes #${issue}\n`)),
  );
}
async function runComment(issue: number, sign: string) {
  return await until(`a comment with ${sign} on #${issue}`, async () =>
    (await rig.github.comments(repository, issue)).find((one) =>
      one.body.includes(`\n${sign}${sign === "⛔" ? "" : " **Run"}`),
    ),
  );
}

describe("a labelled issue", () => {
  test("becomes a branch, an opening commit, a draft and a queued check, then a green check and a ready pull request", async () => {
    const { github } = rig;
    const mainBefore = await github.repositories.resolve(repository, "refs/heads/main");
    const issue = await github.openIssue(
      "ana",
      repository,
      "Say hello",
      "In a file HELLO, please.",
    );
    const labelledAt = Date.now();
    await github.label("ben", repository, issue, "trimo");

    const draft = await pullOf(issue);
    const check = await until("a check run", () => github.checks(repository)[0]);
    expect(Date.now() - labelledAt).toBeLessThan(busyMs);
    expect(draft).toMatchObject({ state: "open", title: "Say hello" });
    expect(draft.head.ref).toBe(`trimo/${issue}-say-hello`);
    expect(check.history[0]).toBe("queued");

    const green = await until("a green check", () =>
      github.checks(repository).find((row) => row.conclusion === "success"),
    );
    const head = await github.repositories.resolve(repository, `refs/heads/${draft.head.ref}`);
    expect(green.head_sha).toBe(head);
    expect(green.name).toBe("Trimo");

    const ready = await until("a ready pull request", async () => {
      const pull = await pullOf(issue);
      return pull.draft ? null : pull;
    });
    expect(ready.body).toContain(`Closes #${issue}`);
    expect(ready.body).toContain("✅ passed");

    // Checks on older commits are neutral, and none is on the default branch's head.
    const checks = github.checks(repository);
    for (const older of checks.filter((row) => row.id !== green.id)) {
      expect([older.status, older.conclusion]).toEqual(["completed", "neutral"]);
      expect(older.output.title).toMatch(/^Superseded by /);
    }
    expect(checks.map((row) => row.head_sha)).not.toContain(mainBefore);
    expect(checks.flatMap((row) => row.history)).toContain("in_progress");

    // One comment, edited in place.
    const done = await runComment(issue, "✅");
    const comments = await github.comments(repository, issue);
    expect(comments).toHaveLength(1);
    expect(done.edits).toBeGreaterThan(0);
    expect(done.body).toContain("Saying hello");

    // Linear history: opening commit, the agent's, and what it had left uncommitted.
    const subjects = await github.repositories.git(repository, [
      "log",
      "--format=%s",
      `${mainBefore}..${head}`,
    ]);
    expect(subjects.split("\n")).toEqual([
      "Keep what run 1 left uncommitted",
      "Say hello",
      `Start #${issue}: Say hello`,
    ]);
    const merges = await github.repositories.git(repository, [
      "rev-list",
      "--merges",
      "--count",
      String(head),
    ]);
    expect(merges).toBe("0");
    expect(await github.repositories.resolve(repository, "refs/heads/main")).toBe(mainBefore);
    await until("nothing left behind", () => leftovers(rig).length === 0);
  });

  test("and a corrective command: a second run on the same pipeline, on top of the first", async () => {
    const { github } = rig;
    const issue = await github.openIssue("ana", repository, "Say it twice", "");
    await github.label("ana", repository, issue, "trimo");
    await runComment(issue, "✅");
    const first = (await pullOf(issue)).head.sha;
    const said = await github.comment(
      "ben",
      repository,
      issue,
      "Nearly.\n\n/trimo fix say it louder\nin two lines",
    );
    const second = await until("the second run's comment", async () =>
      (await github.comments(repository, issue)).find((one) => one.body.includes("✅ **Run 2**")),
    );
    expect(second.body).toContain("1 commit ");
    expect(github.state.reactions).toContainEqual({ comment: said, content: "eyes" });
    const pull = await pullOf(issue);
    expect(pull.body).toContain("say it louder");
    const line = await github.repositories.git(repository, [
      "log",
      "--format=%H",
      `main..${pull.head.sha}`,
    ]);
    expect(line.split("\n")).toContain(first);
    expect(
      (await github.pulls(repository)).filter((row) => row.head.ref === pull.head.ref),
    ).toHaveLength(1);
  });

  test("whose run changes nothing leaves no pull request open and no branch", async () => {
    const { github } = rig;
    const issue = await github.openIssue("ana", repository, "Nothing to do", "");
    await github.label("ana", repository, issue, "trimo:idle");
    await runComment(issue, "⚪");
    const ours = (name: string) => name.startsWith(`trimo/${issue}-`);
    await until("the branch's end", async () => {
      const branches = await github.repositories.git(repository, [
        "branch",
        "--format=%(refname:short)",
      ]);
      return !branches.split("\n").some(ours);
    });
    // A run that ends before GitHub's pace let the draft be opened needs none any more.
    const pull = (await github.pulls(repository)).find((row) => ours(row.head.ref));
    expect(pull?.state ?? "closed").toBe("closed");
  });

  test("with an agent that fails says so, with the output's end and what to do", async () => {
    const { github } = rig;
    const issue = await github.openIssue("ana", repository, "Break", "");
    await github.label("ana", repository, issue, "trimo:fail");
    const comment = await runComment(issue, "❌");
    expect(comment.body).toContain("agent_failed");
    expect(comment.body).toContain("it broke at line 3");
    expect(comment.body).toContain("exit 3");
    expect(comment.body).toContain("/trimo retry");
    expect((await pullOf(issue)).draft).toBe(true);
  });

  test("whose verify command is red keeps its commits and its draft, and shows the receipt", async () => {
    const { github } = rig;
    const issue = await github.openIssue("ana", repository, "Turn it red", "");
    await github.label("ana", repository, issue, "trimo:broken");
    const comment = await runComment(issue, "❌");
    expect(comment.body).toContain("verify_failed");
    expect(comment.body).toContain("| `test ! -e BROKEN` | ❌ exit 1 |");
    const pull = await pullOf(issue);
    expect(pull.draft).toBe(true);
    const check = github.checks(repository).find((row) => row.head_sha === pull.head.sha);
    expect(check?.conclusion).toBe("failure");
    expect(check?.output.title).toContain("Verify failed");
  });

  test("whose agent leaves a shell profile that says all is well is verified without it", async () => {
    const { github } = rig;
    const issue = await github.openIssue("ana", repository, "Lie about it", "");
    await github.label("ana", repository, issue, "trimo:liar");
    expect((await runComment(issue, "❌")).body).toContain("verify_failed");
  });

  test("from someone who may only read is refused, politely, once", async () => {
    const { github } = rig;
    const issue = await github.openIssue("ana", repository, "Not yours", "");
    await github.label("sam", repository, issue, "trimo");
    await github.comment("sam", repository, issue, "/trimo run please");
    const refusal = await runComment(issue, "⛔");
    expect(refusal.body).toContain("@sam");
    expect(refusal.body).toContain("write permission");
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const comments = await github.comments(repository, issue);
    expect(comments.filter((one) => one.user.login === "trimo[bot]")).toHaveLength(1);
    expect(
      (await github.pulls(repository)).some((pull) => pull.head.ref.startsWith(`trimo/${issue}-`)),
    ).toBe(false);
  });

  test("that is empty but for its title runs with the title", async () => {
    const { github } = rig;
    const issue = await github.openIssue("ana", repository, "Only a title", "");
    await github.label("ana", repository, issue, "trimo:look");
    const container = await lookingContainer();
    docker("exec", container, "touch", "/workspace/go");
    await runComment(issue, "✅");
    const pull = await pullOf(issue);
    expect(await github.repositories.git(repository, ["show", `${pull.head.sha}:PROMPT`])).toBe(
      "Only a title",
    );
  });

  test("gets a branch beside one that exists already, and a base that moves does not matter", async () => {
    const { github } = rig;
    const issue = await github.openIssue("ana", repository, "Taken", "");
    await github.repositories.git(repository, [
      "update-ref",
      `refs/heads/trimo/${issue}-taken`,
      "refs/heads/main",
    ]);
    const theirs = await github.repositories.resolve(repository, `refs/heads/trimo/${issue}-taken`);
    await github.label("ana", repository, issue, "trimo");
    const pull = await pullOf(issue);
    await github.repositories.commitFile(repository, "main", "OTHER", "other\n", "Move the base");
    await runComment(issue, "✅");
    expect(pull.head.ref).toBe(`trimo/${issue}-taken-2`);
    expect(await github.repositories.resolve(repository, `refs/heads/trimo/${issue}-taken`)).toBe(
      theirs,
    );
  });
});

/** The id of the container in which `look` has looked and waits. */
async function lookingContainer(): Promise<string> {
  return await until("a container with a checkout", () => {
    const ids = containers(rig);
    return ids.find((id) => {
      try {
        execFileSync("docker", ["exec", id, "test", "-e", "/workspace/PROMPT"], {
          stdio: "ignore",
        });
        return true;
      } catch {
        return false;
      }
    });
  });
}

test("the container has no network, seven capabilities, no new privileges and limits; the agent has none, and no secret is inside", async () => {
  const { github } = rig;
  const issue = await github.openIssue("ana", repository, "Look", "");
  await github.label("ana", repository, issue, "trimo:look");
  const id = await lookingContainer();
  const [seen] = JSON.parse(execFileSync("docker", ["inspect", id]).toString());
  const { HostConfig } = seen;
  expect(HostConfig.NetworkMode).toBe("none");
  expect(HostConfig.CapDrop).toEqual(["ALL"]);
  expect(HostConfig.CapAdd).toHaveLength(7);
  expect(HostConfig.SecurityOpt).toEqual(["no-new-privileges"]);
  expect(HostConfig.Privileged).toBe(false);
  expect([HostConfig.Memory, HostConfig.MemorySwap]).toEqual([512 * 2 ** 20, 512 * 2 ** 20]);
  expect([HostConfig.NanoCpus, HostConfig.PidsLimit]).toEqual([1e9, 200]);
  expect(HostConfig.Binds ?? []).toEqual([]);

  const inside = (script: string) =>
    execFileSync("docker", ["exec", id, "bash", "-c", script], {
      maxBuffer: 64 * 2 ** 20,
    }).toString("latin1");
  const everything = inside(
    `for pid in /proc/[0-9]*; do setpriv --reuid=$(stat -c %u $pid) cat $pid/environ $pid/cmdline 2>/dev/null; done
     find / -xdev \\( -path /proc -o -path /sys -o -path /usr -o -path /opt/trimo/node \\) -prune -o \\
       -type f -size -1000k -print0 | xargs -0 cat 2>/dev/null; find /workspace -type f -print0 | xargs -0 cat`,
  );
  expect(everything.includes("TRIMO_RUN=")).toBe(true);
  const secrets = [
    ...github.state.mintedTokens,
    github.webhookSecret,
    github.privateKey.slice(60, 120),
    github.tokenOf("ana"),
  ];
  for (const secret of secrets) expect(everything.includes(secret)).toBe(false);
  expect(everything.includes("Authorization")).toBe(false);

  inside("touch /workspace/go");
  await runComment(issue, "✅");
  const caps = await github.repositories.git(repository, [
    "show",
    `${(await pullOf(issue)).head.sha}:CAPS`,
  ]);
  expect(caps).toContain("CapEff:\t0000000000000000");
  expect(caps).toContain("CapBnd:\t0000000000000000");
  expect(caps.trim().split("\n").at(-1)).toBe("1000");
});

test("three runs of three pipelines at once on one daemon do not touch each other", async () => {
  const { github } = rig;
  const titles = ["First", "Second", "Third"];
  const issues = await Promise.all(
    titles.map((title) => github.openIssue("ana", repository, title, "")),
  );
  await Promise.all(issues.map((issue) => github.label("ana", repository, issue, "trimo:slow")));
  await until("three containers at once", () => containers(rig).length >= 3);
  const mine = new Set<string>();
  for (const issue of issues) {
    await runComment(issue, "✅");
    const { head } = await pullOf(issue);
    mine.add(await github.repositories.git(repository, ["show", `${head.sha}:MINE`]));
    const files = await github.repositories.git(repository, ["show", `${head.sha}:FILES`]);
    expect(files.split("\n").filter((name) => name === "MINE")).toHaveLength(1);
  }
  expect(mine.size).toBe(3);
  await until("nothing left behind", () => leftovers(rig).length === 0);
});

test("cancelling stops the agent within seconds and keeps its work", async () => {
  const { github } = rig;
  const issue = await github.openIssue("ana", repository, "Stop me", "");
  await github.label("ana", repository, issue, "trimo:look");
  const id = await lookingContainer();
  execFileSync("docker", [
    "exec",
    "-u",
    "1000",
    id,
    "bash",
    "-c",
    "echo unsaved > /workspace/UNSAVED",
  ]);
  const askedAt = Date.now();
  await github.comment("ben", repository, issue, "/trimo cancel");
  await until("the container's end", () => !containers(rig).includes(id));
  expect(Date.now() - askedAt).toBeLessThan(busyMs);
  const comment = await runComment(issue, "⏹️");
  expect(comment.body).toContain("cancelled by ben");
  const { head } = await pullOf(issue);
  expect(await github.repositories.git(repository, ["show", `${head.sha}:UNSAVED`])).toBe(
    "unsaved",
  );
  await until("nothing left behind", () => leftovers(rig).length === 0);
});
