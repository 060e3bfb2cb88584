import type { Json } from "./objects.ts";
import type { World } from "./routes/route.ts";

// What people and other apps do on GitHub, with the deliveries that GitHub sends for it.

type ReviewIn = {
  state: "approved" | "changes_requested" | "commented";
  body: string;
  comments?: { path: string; line: number; body: string; hunk?: string }[];
};
/** Another app's verdict on a commit. */
type CiIn = {
  app?: string;
  name: string;
  conclusion: "success" | "failure";
  summary?: string;
  annotations?: { path: string; line: number; message: string }[];
};

/** CI of another app than Trimo, as GitHub Actions is one. */
const otherApp = 15_368;

export function createPeople(github: World) {
  const { state, api, deliveries } = github;
  const { repositories } = state;

  async function pullOf(fullName: string, number: number): Promise<Json> {
    return await api(state.first, "GET", `/repos/${fullName}/pulls/${number}`);
  }

  const deliver = deliveries.send.bind(deliveries);

  return {
    deliver,

    async review(login: string, fullName: string, pull: number, review: ReviewIn) {
      const pull_request = await pullOf(fullName, pull);
      const user = { login, type: login.endsWith("[bot]") ? "Bot" : "User" };
      const at = new Date().toISOString();
      const row = { id: state.newId(), pull, user, ...review, submitted_at: at };
      state.reviews.push({ ...row, fullName, state: review.state.toUpperCase() });
      for (const comment of review.comments ?? []) {
        const { path, line, body, hunk } = comment;
        const made = {
          id: state.newId(),
          fullName,
          pull,
          user,
          pull_request_review_id: row.id,
          path,
          line,
          original_line: line,
          start_line: null,
          diff_hunk: hunk ?? `@@ -1 +1 @@\n+line ${line}`,
          body,
          created_at: at,
          updated_at: at,
        };
        state.reviewComments.push(made);
        const payload = { action: "created", comment: made, pull_request };
        await deliver("pull_request_review_comment", login, fullName, payload);
      }
      const payload = { action: "submitted", review: row, pull_request };
      await deliver("pull_request_review", login, fullName, payload);
      return row.id;
    },

    /** A check of another app on a commit, and its suite's end. */
    async ci(fullName: string, branch: string, sha: string, ci: CiIn) {
      const now = new Date().toISOString();
      const app = { id: otherApp, name: ci.app ?? "GitHub Actions", slug: "github-actions" };
      state.checks.push({
        id: state.newId(),
        repository: fullName,
        head_sha: sha,
        name: ci.name,
        external_id: "",
        app,
        status: "completed",
        conclusion: ci.conclusion,
        details_url: "",
        started_at: now,
        completed_at: now,
        output: {
          title: ci.name,
          summary: ci.summary ?? "",
          text: null,
          annotations_count: ci.annotations?.length ?? 0,
        },
        annotations: (ci.annotations ?? []).map(({ path, line, message }) => ({
          path,
          start_line: line,
          end_line: line,
          annotation_level: "failure",
          message,
        })),
        actions: [],
        history: ["completed"],
      });
      const check_suite = {
        id: state.newId(),
        head_sha: sha,
        head_branch: branch,
        status: "completed",
        conclusion: ci.conclusion,
        app,
      };
      const payload = { action: "completed", check_suite };
      await deliver("check_suite", "github-actions[bot]", fullName, payload);
    },

    /** A button of a check run, or its *Re-run*. */
    async press(login: string, checkId: number, button: string | "rerun") {
      const check = state.checks.find((row) => row.id === checkId);
      if (!check) throw new Error(`there is no check run ${checkId}`);
      const { repository: _, history: __, ...check_run } = check;
      const payload =
        button === "rerun"
          ? { action: "rerequested", check_run }
          : {
              action: "requested_action",
              check_run,
              requested_action: { identifier: button },
            };
      await deliver("check_run", login, check.repository, payload);
    },

    /** A commit on a branch from a person's own machine; `forced`: in place of all that was there. */
    async push(
      login: string,
      fullName: string,
      branch: string,
      file: { path: string; text: string; message: string },
      forced = false,
    ): Promise<string> {
      const ref = `refs/heads/${branch}`;
      const before = await repositories.resolve(fullName, ref);
      if (forced && before) await repositories.git(fullName, ["update-ref", ref, `${before}^`]);
      const { path, text, message } = file;
      const after = await repositories.commitFile(fullName, branch, path, text, message);
      const commits = [{ id: after, message, added: [], modified: [path], removed: [] }];
      const deleted = false;
      await deliver("push", login, fullName, { ref, before, after, forced, deleted, commits });
      const pull = (await github.pulls(fullName, "open")).find((row) => row.head.ref === branch);
      if (pull) {
        const pull_request = await pullOf(fullName, pull.number);
        const payload = { action: "synchronize", number: pull.number, pull_request, before, after };
        await deliver("pull_request", login, fullName, payload);
      }
      return after;
    },

    /** Merges a pull request with a merge commit, or closes it. */
    async closePull(login: string, fullName: string, number: number, merged: boolean) {
      const before = (await pullOf(fullName, number)) as { head: { sha: string } };
      if (merged) {
        const person = {
          name: login,
          email: `${login}@example.com`,
          date: new Date().toISOString(),
        };
        const main = (await repositories.resolve(fullName, "refs/heads/main")) ?? "";
        const { tree } = await repositories.commit(fullName, before.head.sha);
        const sha = await repositories.write(fullName, {
          message: `Merge pull request #${number}`,
          tree,
          parents: [main, before.head.sha],
          author: person,
          committer: person,
        });
        await repositories.git(fullName, ["update-ref", "refs/heads/main", sha]);
        state.merged.add(`${fullName}#${number}`);
      }
      await api(login, "PATCH", `/repos/${fullName}/pulls/${number}`, { state: "closed" });
      const pull_request = { ...(await pullOf(fullName, number)), merged };
      await deliver("pull_request", login, fullName, { action: "closed", number, pull_request });
    },

    async reopenPull(login: string, fullName: string, number: number) {
      await api(login, "PATCH", `/repos/${fullName}/pulls/${number}`, { state: "open" });
      const pull_request = await pullOf(fullName, number);
      await deliver("pull_request", login, fullName, { action: "reopened", number, pull_request });
    },

    async openPull(login: string, fullName: string, title: string, head: string): Promise<number> {
      const pull = await api(login, "POST", `/repos/${fullName}/pulls`, {
        title,
        head,
        base: "main",
        body: `${title}, by hand.`,
      });
      const number = pull.number as number;
      const pull_request = await pullOf(fullName, number);
      await deliver("pull_request", login, fullName, { action: "opened", number, pull_request });
      return number;
    },

    async unlabel(login: string, fullName: string, issue: number, label: string) {
      const path = `/repos/${fullName}/issues/${issue}/labels/${encodeURIComponent(label)}`;
      await api(login, "DELETE", path);
    },

    async labels(fullName: string, issue: number): Promise<string[]> {
      const list = await api(state.first, "GET", `/repos/${fullName}/issues/${issue}/labels`);
      return (list as unknown as { name: string }[]).map((label) => label.name);
    },

    /** The App's installation is suspended, taken back or removed. */
    async installation(action: "suspend" | "unsuspend" | "deleted", account: string) {
      const installation = { id: state.installationOf(account), account: { login: account } };
      const sender = { login: account, type: "User" };
      await deliveries.capture("installation", { action, installation, sender });
    },
  };
}
