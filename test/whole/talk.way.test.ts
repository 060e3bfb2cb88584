import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leases } from "../../app/state/schema.ts";
import {
  containers,
  docker,
  leftovers,
  type Program,
  type Rig,
  startRig,
  until,
} from "../support/rig.ts";
import { openStore } from "../support/store.ts";

// Talking to Trimo with real containers: a pipeline's whole story, and cancelling at every stage.

const repository = "acme/app";
const other = "beta/app";
/** What takes two seconds on an idle machine, and the agent that is not stopped a minute. */
const busyMs = 50_000;
let rig: Rig;
let daemon: Program;
let token: string;

/** Says what it is doing, works for a while, and leaves a process behind that ignores SIGTERM. */
const worker = `echo ::notice::Working; echo one > ONE; git add -A; git commit -qm "Start the work"
(trap '' TERM; while :; do sleep 1; done) & echo two > TWO
if [ "$(wc -l < "$TRIMO_PROMPT_FILE")" -gt 0 ] && grep -q quick "$TRIMO_PROMPT_FILE"; then exit 0; fi
sleep 60`;
const yml = {
  slots: 4,
  limits: { memory: "256m", cpus: 1, pids: 200, minutes: 5 },
  agents: {
    edit: {
      adapter: "script",
      command: [
        "bash",
        "-c",
        `n=$(git rev-list --count HEAD); echo "::notice::I wrote line $n."; echo "::usage input=1200,output=300,cost=0.02::"
echo "line $n" >> WORK; cp "$TRIMO_PROMPT_FILE" PROMPT; git add -A; git commit -qm "Write line $n"
if head -3 PROMPT | grep -q "take your time"; then sleep 60; fi; if head -3 PROMPT | grep -q "break it"; then echo x > BROKEN; fi; if grep -q "mend it" PROMPT; then rm -f BROKEN; fi; true`,
      ],
    },
    worker: { adapter: "script", command: ["bash", "-c", worker] },
    asker: {
      adapter: "script",
      command: ["bash", "-c", "echo ::ask::Which of the two?; echo x > X; exit 0"],
    },
  },
};

beforeAll(async () => {
  rig = await startRig({
    repositories: [
      { fullName: repository, source: null },
      { fullName: other, source: null },
    ],
  });
  for (const fullName of [repository, other]) {
    const config =
      fullName === repository
        ? "agent: edit\nverify:\n  - \"test ! -e BROKEN || { echo 'src/a.ts:3: it is broken'; false; }\"\n"
        : "agent: worker\nverify:\n  - sleep 50\n";
    await rig.configure(fullName, config);
  }
  await rig.startApp();
  token = rig.enroll("studio");
  daemon = rig.startDaemon("studio", token, yml);
  await until("the daemon", () => daemon.output().includes('"connected"'));
}, 60_000);
afterAll(async () => {
  expect(rig.github.state.breaches).toEqual([]);
  await rig.stop();
});

/** A comment with these words; when there never is one, the failure shows what there was. */
async function said(fullName: string, thread: number, ...words: string[]) {
  let there: string[] = [];
  const look = async () => {
    const all = await rig.github.comments(fullName, thread);
    there = all.map((one) => one.body);
    return all.find((one) => words.every((word) => one.body.includes(word)));
  };
  const what = `a comment with ${words.join(", ")} on #${thread}`;
  return await until(what, look).catch((error) => {
    throw new Error(`${error.message}; there were:\n${there.join("\n────\n")}`);
  });
}
const pullOf = (fullName: string, issue: number) =>
  until("a pull request", async () =>
    (await rig.github.pulls(fullName)).find((pull) => pull.head.ref.startsWith(`trimo/${issue}-`)),
  );

test("five runs, a review and a person's push read as one linear history and one pull request that tells the story", async () => {
  const { github } = rig;
  const { people } = github;
  const issue = await github.openIssue(
    "ana",
    repository,
    "Leap second",
    "The formatter is off by one. break it",
  );
  await github.label("ana", repository, issue, "trimo");
  await said(repository, issue, "❌ **Run 1**", "verify_failed");
  const pull = await pullOf(repository, issue);

  await people.review("ben", repository, pull.number, {
    state: "changes_requested",
    body: "",
    comments: [{ path: "WORK", line: 1, body: "Say which line. mend it" }],
  });
  await said(repository, pull.number, "asks for changes");
  await github.comment("ben", repository, pull.number, "/trimo fix");
  await said(repository, pull.number, "✅ **Run 2**", "ben");

  const branch = pull.head.ref;
  const text = await github.repositories.git(repository, ["show", `${branch}:WORK`]);
  await people.push("ana", repository, branch, {
    path: "BY_HAND",
    text: "x\n",
    message: "Add it by hand",
  });
  await github.comment("ana", repository, issue, "/trimo continue with the docs");
  await said(repository, issue, "✅ **Run 3**", "somebody has pushed 1 commit");

  await github.repositories.commitFile(repository, "main", "WORK", "another\n", "Move the base");
  await github.comment("ana", repository, issue, "/trimo continue take your time");
  const lines = ["log", "--format=%s", "--grep=^Write line", branch];
  await until(
    "the agent's commit",
    async () => (await github.repositories.git(repository, lines)).split("\n").length === 4,
  );
  const askedAt = Date.now();
  await github.comment("ben", repository, issue, "/trimo cancel");
  await until("its end", () => containers(rig).length === 0);
  expect(Date.now() - askedAt).toBeLessThan(busyMs);
  await said(
    repository,
    issue,
    "⏹️ **Run 4**",
    "cancelled by ben",
    "which conflict with the branch in WORK",
  );

  const check = await until("the check of run 4", () =>
    github.checks(repository).find((row) => row.conclusion === "cancelled"),
  );
  await people.press("ana", check.id, "continue");
  await said(repository, issue, "✅ **Run 5**");

  // One line: opening, then what each run and the person added, nothing rewritten.
  const subjects = await github.repositories.git(repository, [
    "log",
    "--format=%s",
    "--reverse",
    `${pull.base.sha}..${branch}`,
  ]);
  expect(subjects.split("\n")[0]).toBe(`Start #${issue}: Leap second`);
  expect(subjects.split("\n").filter((one) => one.startsWith("Write line"))).toHaveLength(5);
  expect(subjects).toContain("Add it by hand");
  expect(subjects.indexOf("Add it by hand")).toBeGreaterThan(subjects.indexOf("Write line"));
  expect(
    await github.repositories.git(repository, ["rev-list", "--merges", "--count", branch]),
  ).toBe("0");
  expect(text).toContain("line");
  const prompts = await github.repositories.git(repository, ["show", `${branch}:PROMPT`]);
  expect(prompts).toContain("## Earlier runs of this pipeline");
  expect(prompts).toContain("Nothing was merged. Merging it would leave conflicts in:\n\n- WORK");

  const pulls = (await github.pulls(repository)).filter((one) => one.head.ref === branch);
  expect(pulls).toHaveLength(1);
  const body = await until("the whole story", async () => {
    const now = (await github.pulls(repository)).find((one) => one.number === pull.number);
    return now && !now.draft && (now.body ?? "").includes("[5](") ? now.body : null;
  });
  for (const words of [
    "Closes #",
    "I wrote line",
    "| [1](",
    "❌ failed",
    "⏹️ cancelled",
    "with the docs",
    "✅ passed",
  ])
    expect(body).toContain(words);
  await show(issue, pull.number, body ?? "");
  await until("nothing left behind", () => leftovers(rig).length === 0);
}, 300_000);

/** What people see, as text, to be looked at. */
async function show(issue: number, pull: number, body: string) {
  const out: string[] = ["", `══ pull request #${pull} ══`, body];
  for (const thread of [issue, pull])
    for (const one of await rig.github.comments(repository, thread))
      out.push(`── ${one.user.login} on #${thread} ──`, one.body);
  for (const check of rig.github.checks(repository))
    out.push(
      `── check ${check.conclusion}: ${check.output.title} ──`,
      check.output.summary,
      check.output.text ?? "",
    );
  process.stdout.write(`${out.join("\n")}\n`);
}

test("an agent's question is asked in a comment, and the check waits for a person", async () => {
  const { github } = rig;
  const issue = await github.openIssue("ana", repository, "Ask me", "");
  await github.label("ana", repository, issue, "trimo:asker");
  await said(repository, issue, "❓ @ana, `asker` asks:", "Which of the two?");
  const { head } = await pullOf(repository, issue);
  const check = await until("the check", () =>
    github.checks(repository).find((row) => row.conclusion === "action_required"),
  );
  expect(check.head_sha).toBe(head.sha);
});

test("a machine that comes back after another has gone on with its pipeline keeps its work aside, and leaves nothing behind", async () => {
  const { github } = rig;
  const issue = await github.openIssue("ana", other, "Two machines", "");
  await github.label("ana", other, issue, "trimo");
  const { head } = await pullOf(other, issue);
  const boxes = () => containers(rig);
  await until("its second file", () => boxes().some((id) => has(id, "/workspace/TWO")));
  await daemon.kill("SIGKILL");
  // Its lease ends: two minutes that a test need not wait.
  const db = await openStore(`${rig.folder}/app/app.db`);
  await db.write((tx) => tx.update(leases).set({ expiresAt: 1 }));
  db.close();
  await said(other, issue, "💔 **Run 1**");
  const mini = rig.startDaemon("mini", rig.enroll("mini"), yml);
  await until("the other machine", () => mini.output().includes('"connected"'));
  await github.comment("ana", other, issue, "/trimo run quick\nagain");
  await until("the second run", async () =>
    (await github.comments(other, issue)).find((one) => /\*\*Run 2\*\*.*`mini`/.test(one.body)),
  );
  daemon = rig.startDaemon("studio", token, yml);
  await until("its work kept", () => daemon.output().includes("another run goes on instead"));
  const listed = await rig.run("kept", "--data", `${rig.folder}/studio`, "--json");
  const [kept] = JSON.parse(listed.output) as { repository: string; commits: string }[];
  expect(kept?.repository).toBe(other);
  // Into a clone that has no more than GitHub.
  await github.repositories.git(other, ["fetch", kept?.commits ?? "", `${head.ref}:refs/kept`]);
  expect(await github.repositories.git(other, ["show", "refs/kept:TWO"])).toBe("two");
  await github.comment("ana", other, issue, "/trimo cancel");
  await said(other, issue, "⏹️ **Run 2**");
  await mini.kill("SIGTERM");
  await until("nothing left behind", () => leftovers(rig).length === 0);
}, 180_000);

describe("cancel means cancel", () => {
  const stageOf = async (issue: number) =>
    (await rig.github.comments(other, issue)).map((one) => one.body).join("\n");
  const boxes = () => containers(rig);

  /** Cancels and sees every process gone within five seconds, and the run's end said. */
  async function cancelled(issue: number) {
    const askedAt = Date.now();
    await rig.github.comment("ben", other, issue, "/trimo cancel");
    await until("every process's end", () => boxes().length === 0);
    const took = Date.now() - askedAt;
    await said(other, issue, "⏹️ **Run 1** was cancelled by ben");
    await until("nothing left behind", () => leftovers(rig).length === 0);
    return took;
  }
  async function begin(title: string) {
    const issue = await rig.github.openIssue("ana", other, title, "");
    await rig.github.label("ana", other, issue, "trimo");
    return issue;
  }

  /** The branch of a run whose agent has committed once and is at its second file. */
  async function atWork(issue: number) {
    const { head } = await pullOf(other, issue);
    await until(
      "its first commit",
      async () =>
        (await rig.github.repositories.git(other, ["log", "-1", "--format=%s", head.ref])) ===
        "Start the work",
    );
    await until("its second file", () => boxes().some((id) => has(id, "/workspace/TWO")));
    return head;
  }

  test("while it is preparing: the fetch is ended, nothing was begun", async () => {
    // A first fetch that GitHub does not answer.
    const issue = await rig.github.openIssue("ana", other, "Preparing", "");
    rig.github.state.gitDelayMs = 20_000;
    await rig.github.label("ana", other, issue, "trimo");
    await until(
      "the claim",
      () => daemon.output().includes(`"claimed"`) || stageOf(issue).then((t) => /studio/.test(t)),
    );
    const took = await cancelled(issue);
    rig.github.state.gitDelayMs = 0;
    expect(took).toBeLessThan(busyMs);
  });

  test("while the agent runs: it and what it left running are gone, its work is pushed with a message that says so", async () => {
    const issue = await begin("Running");
    const head = await atWork(issue);
    expect(await cancelled(issue)).toBeLessThan(busyMs);
    const last = await rig.github.repositories.git(other, ["log", "-1", "--format=%s", head.ref]);
    expect(last).toBe("Keep what run 1 had done when it was stopped");
    expect(await rig.github.repositories.git(other, ["show", `${head.ref}:TWO`])).toBe("two");
  });

  test("while it is verified: the verify command is gone too", async () => {
    const issue = await rig.github.openIssue("ana", other, "Verifying", "");
    await rig.github.comment("ana", other, issue, "/trimo run quick\nplease");
    await until("the verify command", () => boxes().some((id) => runs(id, "sleep 50")));
    expect(await cancelled(issue)).toBeLessThan(busyMs);
  });

  test("while its machine is away: it is told when it is back, keeps the work, and its late reports change nothing", async () => {
    const issue = await begin("Away");
    const head = await atWork(issue);
    await daemon.kill("SIGKILL");
    await rig.github.comment("ben", other, issue, "/trimo cancel");
    await said(other, issue, "It is being stopped by ben");
    daemon = rig.startDaemon("studio", token, yml);
    await said(other, issue, "⏹️ **Run 1** was cancelled by ben");
    await until("nothing left behind", () => leftovers(rig).length === 0);
    expect(await rig.github.repositories.git(other, ["show", `${head.ref}:TWO`])).toBe("two");
  });

  test("while it boots its services: preboot is ended, and while it is queued it leaves the line", async () => {
    execFileSync("docker", ["build", "-q", "-t", "trimo/slow-boot:test", "-"], {
      input: `FROM trimo/base:bookworm\nRUN printf '#!/bin/sh\\ntrap "" TERM\\nsleep 55\\n' > /opt/trimo/preboot.sh && chmod +x /opt/trimo/preboot.sh\n`,
    });
    const issue = await rig.github.openIssue("ana", other, "Booting", "");
    await rig.github.comment("ana", other, issue, "/trimo run image=trimo/slow-boot:test quick");
    await until("preboot", () => boxes().some((id) => runs(id, "sleep 55")));
    expect(await cancelled(issue)).toBeLessThan(busyMs);
    docker("rmi", "-f", "trimo/slow-boot:test");
  });
});

function has(container: string, path: string): boolean {
  try {
    execFileSync("docker", ["exec", container, "test", "-e", path], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

function runs(container: string, command: string): boolean {
  try {
    return execFileSync("docker", ["top", container, "-eo", "pid,args"], {
      stdio: ["ignore", "pipe", "ignore"],
    })
      .toString()
      .split("\n")
      .some((line) => line.trim().replace(/^\d+\s+/, "") === command);
  } catch {
    return false;
  }
}
