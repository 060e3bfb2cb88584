import { test } from "vitest";
import { crashPoints } from "../../app/protocol/crash.ts";
import { useCrashScene } from "../support/crash.ts";

// The app killed at each of its places: started again it goes on, and everything happened once.

const crash = useCrashScene();

test.each(crashPoints.filter((place) => place.startsWith("app:")))("%s", crash.expectOutlived);
