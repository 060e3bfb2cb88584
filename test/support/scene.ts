import { type DaemonYml, type Program, script, startRig, until } from "./rig.ts";

// One repository, an app and a daemon that a test may kill, and what is seen of a run on GitHub.

export const repository = "acme/app";

/** Agents of a scene: `quick` commits once, `steady` step by step and leaves a file uncommitted. */
export const agents = {
  quick: script("echo $TRIMO_RUN > QUICK; git add -A; git commit -qm Quick"),
  steady: script(
    "for i in 1 2 3; do echo $i > STEP$i; git add -A; git commit -qm Step$i; echo ::notice::step $i; sleep 1; done; echo last > LAST",
  ),
};

export type Scene = Awaited<ReturnType<typeof startScene>>;

/** Starts app and daemon; the repository's default agent is `quick`, and verifying takes a second. */
export async function startScene(yml: DaemonYml) {
  const rig = await startRig({});
  const { github } = rig;
  const { repositories } = github;
  await rig.configure(repository, "agent: quick\nverify: ['sleep 1']\n");
  const app = await rig.startApp();
  const token = rig.enroll("studio");
  const scene = {
    rig,
    app,
    /** The daemon's. */
    token,
    daemon: rig.startDaemon("studio", token, yml),
    startDaemon: (changes: DaemonYml = {}, env: Record<string, string> = {}): Program =>
      rig.startDaemon("studio", scene.token, { ...yml, ...changes }, env),
    /** Kills the app and starts it again. */
    async restartApp() {
      await scene.app.kill("SIGKILL");
      scene.app = await rig.startApp();
    },
    async begin(title: string, agent: string): Promise<number> {
      const issue = await github.openIssue("ana", repository, title, "");
      await github.label("ana", repository, issue, `trimo:${agent}`);
      return issue;
    },
    finalComment: (issue: number, number = 1) =>
      until(`run ${number}'s end on #${issue}`, async () =>
        (await github.comments(repository, issue)).find((one) =>
          new RegExp(`^(✅|❌|⚪|💔|⌛|⏹️) \\*\\*Run ${number}\\*\\*`, "m").test(one.body),
        ),
      ),
    pullOf: async (issue: number) =>
      (await github.pulls(repository)).filter((pull) =>
        pull.head.ref.startsWith(`trimo/${issue}-`),
      ),
    /** The text of a run's page, by which a test knows where it is; empty while there is none. */
    async story(issue: number): Promise<string> {
      const comments = await github.comments(repository, issue);
      const ours = comments.find((one) => one.user.login === "trimo[bot]");
      const id = /trimo:run=(\w+)/.exec(ours?.body ?? "")?.[1];
      if (!id) return "";
      return await fetch(`${rig.appUrl}/runs/${id}`).then(
        (answer) => answer.text(),
        () => "",
      );
    },
    /** The subjects on the pipeline's branch beyond `main` and the opening commit, oldest first. */
    async subjects(issue: number): Promise<string[]> {
      const [pull] = await scene.pullOf(issue);
      const range = `main..${pull?.head.sha}`;
      const log = ["log", "--reverse", "--format=%s", range];
      return (await repositories.git(repository, log)).split("\n").slice(1);
    },
  };
  await until("the daemon", () => scene.daemon.output().includes('"connected"'));
  return scene;
}
