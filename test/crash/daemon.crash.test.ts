import { test } from "vitest";
import { crashPoints } from "../../app/protocol/crash.ts";
import { useCrashScene } from "../support/crash.ts";
import { endPlaces } from "../support/crash-ends.ts";

// The daemon killed at each place of a run that ends well: started again it goes on, and everything is there once.

const crash = useCrashScene();
const places = crashPoints.filter(
  (place) => place.startsWith("daemon:") && !endPlaces.includes(place),
);

test.each(places)("%s", crash.expectOutlived);
