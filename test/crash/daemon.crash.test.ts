import { expect, test } from "vitest";
import { crashPoints } from "../../app/protocol/crash.ts";
import { leftover, useCrashScene } from "../support/crash.ts";
import { endPlaces } from "../support/crash-ends.ts";

// The daemon killed at each place of a run that ends well: started again it goes on, and everything is there once.

const crash = useCrashScene();
const places = crashPoints.filter(
  (place) => place.startsWith("daemon:") && !endPlaces.includes(place),
);

test.each(places)("%s", async (place) => {
  await crash.arm(place);
  const issue = await crash.scene.begin(place, "brief");
  await crash.reviveAfter(place);
  expect((await crash.scene.finalComment(issue)).body).toContain("✅ **Run 1**");
  expect(await crash.scene.subjects(issue)).toEqual(["Step", leftover]);
  await crash.expectOnce(issue);
});
