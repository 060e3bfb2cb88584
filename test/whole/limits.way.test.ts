import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { leftovers, type Program, type Rig, script, startRig, until } from "../support/rig.ts";

// Agents that take all they can get, each beside one that does its work: the kernel and the daemon
// end the one with the right words, and the other does not notice.

const repository = "acme/app";
const hurried = "acme/hurried";
let rig: Rig;
let daemon: Program;

const begun = "echo kept > KEPT; git add -A; git commit -qm Kept;";
const agents = {
  quick: script("echo $TRIMO_RUN > QUICK; git add -A; git commit -qm Quick; sleep 2"),
  memory: script(`${begun} tail /dev/zero`),
  processes: script(`${begun} f() { f | f & }; f; sleep 60`),
  forks: script(`${begun} for i in $(seq 300); do sleep 60 & done; wait`),
  workspace: script(`${begun} head -c 90000000 /dev/urandom > BIG; echo small > SMALL; sleep 300`),
  elsewhere: script(`${begun} head -c 90000000 /dev/urandom > /tmp/big; sleep 300`),
  output: script(`${begun} yes trimo | head -c 1000000000; sleep 60`),
  time: script(`${begun} sleep 600`),
  stubborn: script(`${begun} trap '' TERM; (sleep 1000 &); while :; do sleep 1; done`),
};

beforeAll(async () => {
  const names = [repository, hurried];
  rig = await startRig({ repositories: names.map((fullName) => ({ fullName, source: null })) });
  for (const name of names) {
    const limits = name === hurried ? "limits: { minutes: 0.4 }\n" : "";
    await rig.configure(name, `agent: quick\nverify: ['test -e QUICK']\n${limits}`);
  }
  await rig.startApp();
  daemon = rig.startDaemon("studio", rig.enroll("studio"), {
    slots: 6,
    limits: { memory: "300m", cpus: 1, minutes: 6, pids: 120, disk: "64m" },
    agents,
  });
  await until("the daemon", () => daemon.output().includes('"connected"'));
});
afterAll(async () => {
  const left = leftovers(rig);
  await rig.stop();
  expect(left).toEqual([]);
  expect(rig.github.state.breaches).toEqual([]);
});

/** Those that are to run into the time have little of it; a slow disk must not end the others by it. */
const placeOf = (agent: string): string =>
  ["time", "stubborn"].includes(agent) ? hurried : repository;

async function begin(agent: string, place: string): Promise<number> {
  const issue = await rig.github.openIssue("ana", place, agent, "");
  await rig.github.label("ana", place, issue, `trimo:${agent}`);
  return issue;
}
async function ended(issue: number, place: string) {
  return await until(
    `the end of #${issue}`,
    async () =>
      (await rig.github.comments(place, issue)).find((one) =>
        /^(✅|❌|⚪|💔|⌛|⏹️) \*\*Run/m.test(one.body),
      )?.body,
    380_000,
  );
}
async function files(issue: number, agent: string): Promise<string[]> {
  const branch = `trimo/${issue}-${agent}`;
  const text = await rig.github.repositories.git(placeOf(agent), [
    "ls-tree",
    "-r",
    "--name-only",
    branch,
  ]);
  return text.split("\n");
}

describe.concurrent("an agent that", () => {
  test.each([
    ["eats all memory", "memory", "out_of_memory"],
    ["forks without end", "processes", "pids_limit"],
    ["starts more processes than it may", "forks", "pids_limit"],
    ["fills the disk with its work", "workspace", "disk_limit"],
    ["fills the disk elsewhere", "elsewhere", "disk_limit"],
    ["prints a gigabyte", "output", "output_limit"],
    ["does not come to an end", "time", "time_limit"],
    ["does not either, and ignores SIGTERM with a child left behind", "stubborn", "time_limit"],
  ])(
    "%s ends with the right words, its commit kept, beside a neighbour that succeeds",
    async (_what, agent, code) => {
      const place = placeOf(agent);
      const [bad, good] = await Promise.all([begin(agent, place), begin("quick", repository)]);
      const [said, neighbour] = await Promise.all([ended(bad, place), ended(good, repository)]);
      expect(neighbour).toMatch(/^✅/m);
      expect(said).toContain(`(\`${code}\`)`);
      expect(await files(bad, agent)).toContain("KEPT");
      expect(daemon.process.exitCode).toBeNull();
    },
    400_000,
  );
});

describe("an agent that fills the disk", () => {
  test("loses what filled it, and nothing else", async () => {
    const list = await rig.github.api("ana", "GET", `/repos/${repository}/issues?state=all`);
    const { number } = (list as unknown as { number: number; title: string }[]).find(
      ({ title }) => title === "workspace",
    ) ?? { number: 0 };
    expect(await files(number, "workspace")).toContain("SMALL");
    expect(await files(number, "workspace")).not.toContain("BIG");
  });
});
