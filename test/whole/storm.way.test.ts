import { afterAll, beforeAll, expect, test } from "vitest";
import { leftovers, type Program, type Rig, startRig, until } from "../support/rig.ts";

// Twenty issues labelled at once, two daemons of two slots, and an app that is killed on the way.

const repository = "acme/app";
const issuesMax = 20;
let rig: Rig;
let app: Program;

beforeAll(async () => {
  rig = await startRig({ atGithubsPace: true });
  await rig.configure(repository, "agent: hello\nverify: [test -e HELLO]\n");
  app = await rig.startApp();
  for (const name of ["studio", "mini"]) {
    const daemon = rig.startDaemon(name, rig.enroll(name), {
      slots: 2,
      limits: { memory: "256m", cpus: 1, pids: 100, minutes: 5 },
      agents: {
        hello: {
          adapter: "script",
          command: [
            "bash",
            "-c",
            "echo $TRIMO_RUN > HELLO; git add HELLO; git commit -qm Hello; sleep 15",
          ],
        },
      },
    });
    await until("the daemon", () => daemon.output().includes('"connected"'));
  }
}, 60_000);
afterAll(async () => {
  expect(rig.github.state.breaches).toEqual([]);
  await rig.stop();
});

const content =
  /^(POST|PATCH) \/repos\/[^/]+\/[^/]+\/(issues\/comments\/\d+$|issues\/\d+\/comments|pulls(\/\d+)?$|issues\/comments\/\d+\/reactions)|^POST \/graphql/;
/** All but what the test itself does in people's names. */
const writes = /^(POST|PATCH|PUT|DELETE) (?!.*(access_tokens|\/issues$|\/labels$)|\/app\/)/;

test("twenty issues labelled at once are twenty runs, each once, in order; positions only go down; GitHub's pace is kept through three kills", async () => {
  const { github } = rig;
  const titles = Array.from({ length: issuesMax }, (_, i) => `Storm ${i + 1}`);
  const issues: number[] = [];
  for (const title of titles) issues.push(await github.openIssue("ana", repository, title, ""));
  const seen = new Map<string, number[]>();
  let watching = true;
  const watch = (async () => {
    while (watching) {
      const told: [string, string][] = github
        .checks(repository)
        .map((check) => [`check ${check.id}`, check.output.title]);
      for (const issue of issues) {
        const [first] = await github.comments(repository, issue).catch(() => []);
        told.push([`comment ${issue}`, first?.body ?? ""]);
      }
      for (const [where, words] of told) {
        const line = /(?:(next)|(\d+)\w\w) in line/.exec(words);
        if (!line) continue;
        const position = line[1] ? 1 : Number(line[2]);
        const positions = seen.get(where) ?? [];
        if (positions.at(-1) !== position) seen.set(where, [...positions, position]);
      }
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
  })();

  await Promise.all(issues.map((issue) => github.label("ana", repository, issue, "trimo")));
  for (const after of [3, 9, 15]) {
    await until(`${after} green checks`, () => green().length >= after, 180_000);
    await app.kill("SIGKILL");
    app = await rig.startApp();
  }
  await until("twenty green checks", () => green().length >= issuesMax, 180_000);
  await until(
    "twenty final comments",
    async () => {
      for (const issue of issues) {
        const all = await github.comments(repository, issue);
        if (!all.some((one) => one.body.includes("✅ **Run 1**"))) return false;
      }
      return true;
    },
    180_000,
  );
  watching = false;
  await watch;

  // Each once: one run, one comment, one pull request, one branch an issue.
  expect(green()).toHaveLength(issuesMax);
  expect(new Set(green().map((check) => check.external_id)).size).toBe(issuesMax);
  const pulls = await github.pulls(repository);
  expect(pulls.map((pull) => pull.head.ref.split("-")[0]).sort()).toEqual(
    issues.map((issue) => `trimo/${issue}`).sort(),
  );
  for (const issue of issues) expect(await github.comments(repository, issue)).toHaveLength(1);

  // In order: with four slots a run starts at most a handful of places from where it was asked; what the
  // app heard late after a kill it also noted late.
  const startedAt = new Map(
    pulls.map((pull) => {
      const check = green().find((row) => row.head_sha === pull.head.sha);
      return [
        Number(/trimo\/(\d+)-/.exec(pull.head.ref)?.[1]),
        Date.parse(check?.started_at ?? ""),
      ];
    }),
  );
  const asked = await intentsInOrder();
  const started = [...startedAt].sort((a, b) => a[1] - b[1]).map(([issue]) => issue);
  for (const [index, issue] of asked.entries())
    expect(Math.abs(started.indexOf(issue) - index)).toBeLessThanOrEqual(8);

  // Truthful: a position only ever goes down.
  for (const positions of seen.values())
    expect(positions).toEqual([...positions].sort((a, b) => b - a));
  // How often one is told again hangs on what GitHub's pace leaves for it (talk.border.test.ts).
  expect([...seen.values()].flat().length).toBeGreaterThan(10);

  // Never more content in a minute than GitHub takes, and never more writes.
  expect(most(content)).toBeLessThanOrEqual(80);
  expect(most(writes)).toBeLessThanOrEqual(180);
  process.stdout.write(
    `storm: at most ${most(content)} writes of content and ${most(writes)} writes in a minute; positions told ${JSON.stringify([...seen])}\n`,
  );
  await until("nothing left behind", () => leftovers(rig).length === 0);
}, 900_000);

const green = () => rig.github.checks(repository).filter((row) => row.conclusion === "success");

/** The issues in the order in which the app heard of their labels. */
async function intentsInOrder(): Promise<number[]> {
  const { openStore } = await import("../support/store.ts");
  const { runs, pipelines } = await import("../../app/state/schema.ts");
  const db = await openStore(`${rig.folder}/app/app.db`);
  const rows = await db.read
    .select()
    .from(runs)
    .innerJoin(pipelines, (await import("drizzle-orm")).eq(pipelines.id, runs.pipelineId))
    .orderBy(runs.createdAt);
  db.close();
  return rows.map((row) => row.pipelines.issue);
}

/** The most requests of a kind within any minute. */
function most(kind: RegExp): number {
  const times = rig.github.state.requests
    .filter(({ line }) => kind.test(line))
    .map(({ at }) => at)
    .sort((a, b) => a - b);
  return Math.max(0, ...times.map((at) => times.filter((t) => t >= at && t < at + 60_000).length));
}
