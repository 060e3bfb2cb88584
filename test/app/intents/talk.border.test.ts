import { eq } from "drizzle-orm";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { intents, pipelines, runs } from "../../../app/state/schema.ts";
import type { Machine } from "../../support/machine.ts";
import { nextSecond, until } from "../../support/rig.ts";
import { startTalk, type Talk } from "../../support/talk.ts";

// What people say on GitHub and what comes of it, from the delivery to the comment.

const verify = "verify: [npm test]\n";
let talk: Talk;
let machine: Machine;
let turn: Promise<unknown> = Promise.resolve();
/** Tests share one machine, so each has it to itself from claim to settle. */
const alone = <T>(work: () => Promise<T>): Promise<T> => {
  const mine = turn.then(work);
  turn = mine.catch(() => {});
  return mine;
};

beforeAll(async () => {
  talk = await startTalk({
    "acme/app": verify,
    "wide/app": `${verify}commands: { run: triage, cancel: admin, status: write }\n`,
    "bent/app": "agent: Claude\nverifi: [x]\nlimits:\n  minutes: soon\n",
    "fine/app": verify,
  });
  machine = await talk.machine("studio", 2, ["hello", "codex"]);
});
afterAll(async () => await talk.stop());

const app = "acme/app";
const runsOf = async (fullName: string, issue: number) =>
  (await talk.db.read.select().from(runs).innerJoin(pipelines, eq(pipelines.id, runs.pipelineId)))
    .filter((row) => row.pipelines.repository === fullName && row.pipelines.issue === issue)
    .map((row) => row.runs)
    .sort((a, b) => a.number - b.number);
const ran = (fullName: string, issue: number, number: number) =>
  until(`${number} runs of #${issue}`, async () => {
    const all = await runsOf(fullName, issue);
    return all.length >= number && all;
  });

describe("answers", () => {
  test("help is the table of this repository; a typo, an unknown agent and a bare word get what helps", async () => {
    const { github } = talk;
    const issue = await talk.issue("wide/app", "Help");
    await github.comment("sam", "wide/app", issue, "/trimo help");
    const help = await talk.said("wide/app", issue, "| command |");
    expect(help.body).toMatch(/\/trimo run .*\| triage \|/);
    expect(help.body).toMatch(/\/trimo cancel.*\| admin \|/);
    await github.comment("ana", "wide/app", issue, "/trimo cancle");
    await talk.said("wide/app", issue, "Did you mean `/trimo cancel`");
    await github.comment("ana", "wide/app", issue, "/trimo run agent=gemini go");
    await talk.said(
      "wide/app",
      issue,
      "No machine here has an agent named `gemini`",
      "`codex`, `hello`",
    );
    await github.comment("ana", "wide/app", issue, "/trimo fix that");
    await talk.said("wide/app", issue, "There is no run here yet to build on");
    expect(await runsOf("wide/app", issue)).toEqual([]);
  });

  test("who may not is told once an hour, whatever they repeat; a repository widens and narrows", async () => {
    const { github } = talk;
    const issue = await talk.issue("wide/app", "Who may");
    await github.comment("sam", "wide/app", issue, "/trimo run");
    await talk.said("wide/app", issue, "⛔", "triage permission", "you have read permission");
    for (const words of ["/trimo run now", "/trimo status"])
      await github.comment("sam", "wide/app", issue, words);
    await github.comment("tim", "wide/app", issue, "/trimo run by triage");
    await ran("wide/app", issue, 1);
    await github.comment("ben", "wide/app", issue, "/trimo cancel");
    await talk.said("wide/app", issue, "⛔ @ben", "admin permission");
    expect((await runsOf("wide/app", issue))[0]?.state).toBe("queued");
    await github.comment("ana", "wide/app", issue, "/trimo cancel");
    await talk.said("wide/app", issue, "⏹️", "cancelled by ana");
    const refused = (await talk.github.comments("wide/app", issue)).filter((c) =>
      c.body.includes("⛔"),
    );
    expect(refused).toHaveLength(2);
  });

  test("a broken trimo.yml stops new runs here with every mistake's line, and nothing elsewhere; cancel and status still answer", async () => {
    const { github } = talk;
    const issue = await talk.issue("bent/app", "Bent");
    await github.label("ana", "bent/app", issue, "trimo");
    const said = await talk.said("bent/app", issue, "No run was started");
    for (const words of ["line 1", "line 2", "verifi", "line 4", "limits.minutes"])
      expect(said.body).toContain(words);
    await github.comment("ana", "bent/app", issue, "/trimo status");
    await talk.said("bent/app", issue, "No run is queued");
    expect(await runsOf("bent/app", issue)).toEqual([]);
    await alone(async () => {
      const other = await talk.issue("fine/app", "Fine");
      await github.label("ana", "fine/app", other, "trimo");
      const job = await machine.work();
      expect(job.repository).toBe("fine/app");
      await talk.finish(machine, job);
    });
  });

  test("the same wish twice within a minute is one run, and says so; another is another", async () => {
    const { github } = talk;
    await alone(async () => {
      const issue = await talk.issue(app, "Twice");
      await github.comment("ana", app, issue, "/trimo run do it");
      await github.comment("ben", app, issue, "/trimo run do it");
      await talk.said(app, issue, "You asked for this a moment ago: it is run 1.");
      await github.comment("ana", app, issue, "/trimo run do it otherwise");
      const all = await ran(app, issue, 2);
      expect(all.map((run) => run.prompt)).toEqual(["do it", "do it otherwise"]);
      await github.comment("ana", app, issue, "/trimo cancel");
      await until("their end", async () => (await runsOf(app, issue)).every((r) => r.endedAt));
    });
  });

  test("five labels on one issue are exactly the runs they name, each label off at its run's end", async () => {
    const { github } = talk;
    await alone(async () => {
      const issue = await talk.issue(app, "Storm on one");
      await github.label(
        "ana",
        app,
        issue,
        "bug",
        "trimo",
        "trimo:codex",
        "trimo:now",
        "help wanted",
      );
      const all = await ran(app, issue, 2);
      expect(all.map((run) => run.agent).sort()).toEqual(["codex", null]);
      expect(all.map((run) => run.priority)).toEqual([10, 10]);
      const first = await machine.work();
      expect(await machine.claim()).toBeNull();
      await talk.finish(machine, first);
      await talk.finish(machine, await machine.work("codex"));
      await until(
        "the labels' end",
        async () =>
          !(await github.people.labels(app, issue)).some((name) => /^trimo(:codex)?$/.test(name)),
      );
      await github.label("ana", app, issue, "trimo");
      expect((await ran(app, issue, 3))[2]).toMatchObject({ number: 3, state: "queued" });
      await talk.finish(machine, await machine.work());
    });
  });
});

describe("the line", () => {
  test("says position, what it waits for and when; holding beats everything, and trimo:now goes first", async () => {
    const { github } = talk;
    await alone(async () => {
      const busy = [await talk.issue("fine/app", "Busy 1"), await talk.issue("fine/app", "Busy 2")];
      for (const issue of busy) await github.label("ana", "fine/app", issue, "trimo");
      const jobs = [await machine.work(), await machine.work()];
      const [a, b, c] = [
        await talk.issue("fine/app", "First"),
        await talk.issue("fine/app", "Second"),
        await talk.issue("fine/app", "Third"),
      ];
      for (const issue of [a, b, c]) {
        await github.label("ana", "fine/app", issue, "trimo");
        await ran("fine/app", issue, 1);
      }
      const first = await talk.said("fine/app", a, "next in line", "starts in");
      expect(first.body).toContain("It waits for a slot on `studio` (2 of 2 busy).");
      await talk.said("fine/app", c, "3rd in line");
      await until("the check", () =>
        github.checks("fine/app").find((row) => row.output.title.includes("3rd in line")),
      );
      await github.label("ana", "fine/app", c, "trimo:now");
      await talk.said("fine/app", c, "next in line");
      await github.comment("ana", "fine/app", a, "/trimo status");
      await talk.said("fine/app", a, "run 1 is queued · 2nd in line");
      await github.label("ana", "fine/app", c, "trimo:hold");
      await talk.said("fine/app", c, "on hold", "`trimo:hold`");
      for (const job of jobs) await talk.finish(machine, job);
      const order = [];
      for (const _ of [a, b]) {
        const job = await machine.work();
        order.push(job.issue);
        // The one behind it has moved up, and is told so.
        if (job.issue === a) await talk.said("fine/app", b, "next in line");
        await talk.finish(machine, job);
      }
      expect(order).toEqual([a, b]);
      expect(await machine.claim()).toBeNull();
      await github.people.unlabel("ana", "fine/app", c, "trimo:hold");
      const last = await machine.work();
      expect(last.issue).toBe(c);
      await talk.finish(machine, last);
    });
  });

  test("says when no machine serves it, when its own pipeline is first, and when its machine is away", async () => {
    const { github } = talk;
    await alone(async () => {
      const issue = await talk.issue(app, "Behind");
      await github.label("ana", app, issue, "trimo");
      const job = await machine.work();
      await github.comment("ana", app, issue, "/trimo continue and then");
      await talk.said(
        app,
        issue,
        "behind run 1",
        "It waits for run 1 of the same pipeline to end.",
      );
      await talk.finish(machine, job);
      await talk.finish(machine, await machine.work());
      await machine.hello(0, ["hello", "codex"]);
      const alone = await talk.issue(app, "Nobody");
      await github.label("ana", app, alone, "trimo");
      await talk.said(app, alone, "waiting for a machine", "`studio` is away");
      await machine.hello(2, ["hello", "codex"]);
      await talk.finish(machine, await machine.work());
    });
  });
});

describe("cancel", () => {
  test("takes a queued run out of the line, and says when there is nothing to stop or it is stopping", async () => {
    const { github } = talk;
    await alone(async () => {
      const issue = await talk.issue(app, "Stop");
      await github.comment("ana", app, issue, "/trimo cancel");
      await talk.said(app, issue, "No run is queued or running here.");
      await nextSecond();
      await github.label("ana", app, issue, "trimo");
      const job = await machine.work();
      await github.comment("ben", app, issue, "/trimo cancel");
      await talk.said(app, issue, "It is being stopped by ben");
      await github.comment("ana", app, issue, "/trimo cancel");
      await talk.said(app, issue, "Run 1 is already being stopped by ben.");
      const renewed = await machine.ask(`runs/${job.run}/renew`, {
        attempt: job.attempt,
        received: 0,
      });
      expect(renewed.body).toMatchObject({ cancel: true });
      await talk.finish(machine, job, { outcome: "cancelled" });
      await talk.said(app, issue, "⏹️ **Run 1** was cancelled by ben");
      await github.comment("ana", app, issue, "/trimo continue");
      await talk.finish(machine, await machine.work());
      await talk.said(app, issue, "✅ **Run 2**");
    });
  });
});

describe("intents", () => {
  test("each is stored once with its reason, whatever is delivered how often", async () => {
    const { github } = talk;
    await alone(async () => {
      const issue = await talk.issue(app, "Once");
      github.state.deliveryFault = "double";
      await github.label("ana", app, issue, "trimo");
      await ran(app, issue, 1);
      github.state.deliveryFault = "none";
      await talk.finish(machine, await machine.work());
      expect(await runsOf(app, issue)).toHaveLength(1);
      const stored = await talk.db.read.select().from(intents).where(eq(intents.issue, issue));
      const mine = stored.filter((row) => row.repository === app);
      expect(mine).toMatchObject([
        {
          kind: "label",
          outcome: "run",
          request: { type: "label", label: "trimo" },
          sender: "ana",
        },
      ]);
    });
  });
});
