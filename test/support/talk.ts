import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { expect } from "vitest";
import { readConfig } from "../../app/config.ts";
import { enroll } from "../../app/daemons/enroll.ts";
import { startApp } from "../../app/main.ts";
import type { Job } from "../../app/protocol/job.ts";
import type { Settle } from "../../app/protocol/settle.ts";
import { parseCommand } from "../../app/text/command.ts";
import { startStandIn } from "./github/standin.ts";
import { Machine } from "./machine.ts";
import { quick, until } from "./rig.ts";
import { openStore } from "./store.ts";

// The app in this process before the stand-in; daemons are spoken by the test, without containers.

export type Talk = Awaited<ReturnType<typeof startTalk>>;

export async function startTalk(repositories: Record<string, string | null>) {
  const folder = mkdtempSync(join(tmpdir(), "trimo-talk-"));
  const github = await startStandIn({
    repositories: Object.keys(repositories).map((fullName) => ({ fullName, source: null })),
    people: { ana: "admin", ben: "push", tim: "triage", sam: "pull" },
  });
  for (const [fullName, trimoYml] of Object.entries(repositories)) {
    await github.repositories.commitFile(fullName, "main", "README.md", "# Hi\n", "Begin");
    if (trimoYml !== null) await setTrimoYml(fullName, trimoYml);
  }
  const env = { ...github.env, ...quick, TRIMO_DATA: folder, PORT: "0" };
  const log = pino({ level: process.env.TRIMO_TEST_LOG ?? "silent" });
  const app = await startApp(readConfig(env as never), log);
  const url = `http://127.0.0.1:${app.port}`;
  github.deliverTo(url);
  const db = await openStore(join(folder, "app.db"));

  async function setTrimoYml(fullName: string, text: string) {
    const path = ".github/trimo.yml";
    await github.repositories.commitFile(fullName, "main", path, text, "Configure Trimo");
  }
  async function comments(fullName: string, thread: number) {
    return await github.comments(fullName, thread);
  }

  return {
    folder,
    github,
    db,
    url,
    setTrimoYml,
    async machine(name: string, slots: number, agents = ["hello"]) {
      const secret = randomBytes(9).toString("hex");
      const token = await enroll(db, { name, account: null, secret });
      const machine = new Machine(url, name, String(token));
      await machine.hello(slots, agents);
      return machine;
    },
    async issue(fullName: string, title: string, body = "") {
      return await github.openIssue("ana", fullName, title, body);
    },
    /** A comment of Trimo's under a thread that contains these words. */
    async said(fullName: string, thread: number, ...words: string[]) {
      return await until(`a comment with ${words.join(", ")} on ${fullName}#${thread}`, async () =>
        (await comments(fullName, thread)).find(
          (one) =>
            one.user.login === "trimo[bot]" && words.every((word) => one.body.includes(word)),
        ),
      );
    },
    /** How many comments Trimo has under a thread. */
    async count(fullName: string, thread: number) {
      const all = await comments(fullName, thread);
      return all.filter((one) => one.user.login === "trimo[bot]").length;
    },
    async pullOf(fullName: string, issue: number) {
      return await until(`a pull request for ${fullName}#${issue}`, async () =>
        (await github.pulls(fullName)).find((pull) => pull.head.ref.startsWith(`trimo/${issue}-`)),
      );
    },
    /** A commit as an agent would make it, on GitHub and told of. */
    async commit(machine: Machine, job: Job, path: string, text = `${path}\n`) {
      const { repository, branch } = job;
      // The daemon makes the branch where no opening commit did.
      const ref = `refs/heads/${branch}`;
      if (!(await github.repositories.resolve(repository, ref)))
        await github.repositories.git(repository, ["update-ref", ref, job.base.sha]);
      const sha = await github.repositories.commitFile(
        repository,
        branch,
        path,
        text,
        `Add ${path}`,
      );
      await machine.tell(
        job,
        { type: "commit", sha, subject: `Add ${path}` },
        { type: "pushed", sha },
      );
      return sha;
    },
    /** A whole run with one commit and a green receipt. */
    async finish(machine: Machine, job: Job, end: Partial<Settle> = {}, exitCode = 0) {
      const sha = await this.commit(machine, job, `run-${job.number}`);
      const tail = exitCode === 0 ? "" : "src/a.ts:3: expected 2, got 3\n1 failed";
      const receipt = { index: 0, command: "npm test", exitCode, durationMs: 40, tail };
      await machine.tell(job, { type: "receipt", ...receipt });
      const failure = { code: "verify_failed" as const, detail: "npm test ended with exit 1" };
      const outcome = exitCode === 0 ? {} : { outcome: "failed" as const, failure };
      const answer = await machine.settle(job, { head: sha, changed: true, ...outcome, ...end });
      expect(answer).toMatchObject({ status: 200 });
      return sha;
    },
    async stop() {
      // Whatever a test made it say, none of it may speak to Trimo, and all of it is GitHub's to take.
      for (const fullName of Object.keys(repositories)) {
        const list = await github.api(
          "ana",
          "GET",
          `/repos/${fullName}/issues?state=all&per_page=100`,
        );
        for (const { number } of list as unknown as { number: number }[])
          for (const one of await comments(fullName, number))
            if (one.user.login === "trimo[bot]") expect(parseCommand(one.body)).toBeNull();
      }
      expect(github.state.breaches).toEqual([]);
      await app.stop();
      db.close();
      await github.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
