import { expect, test } from "vitest";
import { crashPoints } from "../../app/protocol/crash.ts";
import { leftover, useCrashScene } from "../support/crash.ts";

// The app killed at each of its places: started again it goes on, and everything happened once.

const crash = useCrashScene();

test.each(crashPoints.filter((place) => place.startsWith("app:")))("%s", async (place) => {
  await crash.arm(place);
  const issue = await crash.scene.begin(place, "brief");
  await crash.reviveAfter(place);
  expect((await crash.scene.finalComment(issue)).body).toContain("✅ **Run 1**");
  expect(await crash.scene.subjects(issue)).toEqual(["Step", leftover]);
  await crash.expectOnce(issue);
});
