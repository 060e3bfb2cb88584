import { afterAll, beforeAll, expect, test } from "vitest";
import { pathsUnder } from "../support/files.ts";
import { containers, docker, leftovers, script, until } from "../support/rig.ts";
import { agents, repository, type Scene, startScene } from "../support/scene.ts";

// Work that nobody committed, when the container goes and its volume with it.

let scene: Scene;

beforeAll(async () => {
  scene = await startScene({
    slots: 4,
    limits: { memory: "512m", cpus: 1, minutes: 5 },
    agents: {
      ...agents,
      // Its .git as agents leave it at their worst: locked, gone, ahead of what was pushed and denying it.
      locked: drafts("touch .git/index.lock"),
      gone: drafts("rm -rf .git"),
      ahead: drafts(
        "/usr/bin/git commit -qam Unpushed; /usr/bin/git update-ref refs/remotes/origin/$TRIMO_BRANCH HEAD",
      ),
      hidden: drafts("mkdir -m 700 private; (umask 077; echo mine > private/MINE)"),
    },
  });
});
afterAll(async () => {
  expect(scene.rig.github.state.breaches).toEqual([]);
  await scene.rig.stop();
});

function drafts(then: string) {
  const commit = "echo one > ONE; git add -A; git commit -qm One";
  return script(
    `${commit}; echo two > TWO; rm README.md; ${then}; echo ::notice::ready; sleep 1000`,
  );
}

/** Gates of this rig that have a snapshot. */
const snapshots = () =>
  pathsUnder(scene.rig.folder).filter((path) => path.endsWith("/refs/trimo/snapshot"));

async function fileOf(issue: number, path: string): Promise<string> {
  const [pull] = await scene.pullOf(issue);
  return await scene.rig.github.repositories.git(repository, ["show", `${pull?.head.sha}:${path}`]);
}

test("is put back on each branch by the daemon that comes back", async () => {
  const names = ["locked", "gone", "ahead", "hidden"];
  const issues = await Promise.all(names.map((name) => scene.begin(`Drafts ${name}`, name)));
  await until("a snapshot of each", () => snapshots().length === names.length);
  await scene.daemon.kill("SIGKILL");
  docker("rm", "-f", ...containers(scene.rig));
  docker("volume", "rm", ...leftovers(scene.rig));
  scene.daemon = scene.startDaemon();
  for (const [index, issue] of issues.entries()) {
    const end = await scene.finalComment(issue);
    expect(end.body).toContain("container_died");
    expect(await scene.subjects(issue)).toEqual(["One", "Keep what run 1 left uncommitted"]);
    expect(await fileOf(issue, "TWO")).toBe("two");
    const told = await scene.story(issue);
    expect(told).toMatch(/volume is lost; uncommitted work is as it was at \d\d:\d\d UTC/);
    if (names[index] === "hidden") expect(await fileOf(issue, "private/MINE")).toBe("mine");
    await expect(fileOf(issue, "README.md")).rejects.toThrow();
  }
  await until("nothing left behind", () => leftovers(scene.rig).length === 0);
});

test("is rescued from the volume of an agent that had removed its .git", async () => {
  const issue = await scene.begin("No more git", "gone");
  await until("its work", async () => (await scene.story(issue)).includes("ready"));
  docker("kill", ...containers(scene.rig));
  expect((await scene.finalComment(issue)).body).toContain("container_died");
  expect(await scene.subjects(issue)).toEqual(["One", "Keep what run 1 left uncommitted"]);
  expect(await fileOf(issue, "TWO")).toBe("two");
});
