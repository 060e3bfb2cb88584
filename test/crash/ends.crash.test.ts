import { expect, test } from "vitest";
import { leftover, useCrashScene } from "../support/crash.ts";
import { deathPlaces, keepingPlaces } from "../support/crash-ends.ts";
import { pathsUnder } from "../support/files.ts";
import { containers, docker, leftovers, until } from "../support/rig.ts";
import { repository } from "../support/scene.ts";

// The daemon killed at each place of a run that ends badly: its container dies or is lost, or its branch is moved.

const crash = useCrashScene();
const git = (...args: string[]) => crash.scene.rig.github.repositories.git(repository, args);
const branchOf = async (issue: number) => (await crash.scene.pullOf(issue))[0]?.head.ref ?? "";
const pathsThatEndWith = (end: string) =>
  pathsUnder(crash.scene.rig.folder).filter((path) => path.endsWith(end));
const bundles = () => pathsThatEndWith(".bundle");

test.each(deathPlaces)("%s: its work is rescued", async (place) => {
  await crash.arm(place);
  const issue = await crash.scene.begin(place, "waits");
  await until("its work", async () => (await crash.scene.story(issue)).includes("agent: waiting"));
  docker("kill", ...containers(crash.scene.rig));
  await crash.reviveAfter(place);
  expect((await crash.scene.finalComment(issue)).body).toContain("container_died");
  expect(await crash.scene.subjects(issue)).toEqual(["Step", leftover]);
  await crash.expectOnce(issue);
});

test("a snapshot is recovered: it is there once", async () => {
  const issue = await crash.scene.begin("Lost", "waits");
  await until("its snapshot", () => pathsThatEndWith("/refs/trimo/snapshot").length > 0);
  await crash.scene.daemon.kill("SIGKILL");
  docker("rm", "-f", ...containers(crash.scene.rig));
  docker("volume", "rm", ...leftovers(crash.scene.rig));
  await crash.arm("daemon: a snapshot is recovered");
  await crash.reviveAfter("daemon: a snapshot is recovered");
  expect((await crash.scene.finalComment(issue)).body).toContain("container_died");
  expect(await crash.scene.subjects(issue)).toEqual(["Step", leftover]);
  await crash.expectOnce(issue);
});

/** Somebody commits to the run's branch while its agent is at work. */
async function moved(title: string): Promise<{ issue: number; branch: string }> {
  const issue = await crash.scene.begin(title, "slow");
  await until("its commit", async () => (await crash.scene.story(issue)).includes("pushed"));
  const branch = await branchOf(issue);
  const { repositories } = crash.scene.rig.github;
  await repositories.commitFile(repository, branch, "THEIRS", "theirs\n", "Theirs");
  return { issue, branch };
}
/** And has a branch of the name that the run's work would go to. */
async function nowhere(title: string) {
  const run = await moved(title);
  await git("update-ref", `refs/heads/${run.branch}-run-1`, `refs/heads/${run.branch}`);
  return run;
}

test("the branch beside is pushed: it is there once", async () => {
  await crash.arm("daemon: the branch beside is pushed");
  const { issue, branch } = await moved("Moved");
  await crash.reviveAfter("daemon: the branch beside is pushed");
  const end = await crash.scene.finalComment(issue);
  expect(end.body).toContain(`The run's commits are on the branch ${branch}-run-1`);
  const log = await git("log", "--format=%s", `main..refs/heads/${branch}-run-1`);
  expect(log.split("\n").slice(0, 2)).toEqual(["Late", "Step"]);
  await crash.expectOnce(issue);
});

test.each(keepingPlaces)("%s: they are kept once", async (place) => {
  const before = bundles().length;
  await crash.arm(place);
  const { issue } = await nowhere(place);
  await crash.reviveAfter(place);
  const end = await crash.scene.finalComment(issue);
  expect(end.body).toContain("The run's commits are kept on its machine");
  expect(bundles()).toHaveLength(before + 1);
  await crash.expectOnce(issue);
});

test("what was kept is pushed: it is on GitHub, and kept no more", async () => {
  const { issue, branch } = await nowhere("Kept");
  await crash.scene.finalComment(issue);
  const before = bundles().length;
  await git("update-ref", "-d", `refs/heads/${branch}-run-1`);
  await crash.scene.daemon.kill("SIGKILL");
  crash.scene.daemon = crash.scene.startDaemon(
    {},
    { TRIMO_CRASH: "daemon: what was kept is pushed" },
  );
  await crash.reviveAfter("daemon: what was kept is pushed");
  await until("that nothing more is kept of it", () => bundles().length === before - 1);
  const log = await git("log", "--format=%s", `main..refs/heads/${branch}-run-1`);
  expect(log.split("\n").slice(0, 2)).toEqual(["Late", "Step"]);
});
