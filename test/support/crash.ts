import { afterAll, beforeAll, expect } from "vitest";
import type { CrashPoint } from "../../app/protocol/crash.ts";
import { leftovers, type Program, script, until } from "./rig.ts";
import { agents, repository, type Scene, startScene } from "./scene.ts";

// App and daemon killed with -9 at one of the places that app/protocol/crash.ts names.

/** The commit that keeps what an agent left. */
export const leftover = "Keep what run 1 left uncommitted";

/** A scene for all tests of a file. */
export function useCrashScene() {
  let scene: Scene;
  const step = "echo 1 > STEP; git add -A; git commit -qm Step; echo last > LAST";
  beforeAll(async () => {
    scene = await startScene({
      slots: 2,
      limits: { memory: "512m", cpus: 1, minutes: 3 },
      agents: {
        ...agents,
        brief: script(`${step}; sleep 1`),
        // Until its container is killed.
        waits: script(`${step}; echo ::notice::waiting; sleep 1000`),
        slow: script(`${step}; sleep 6; git add -A; git commit -qm Late`),
      },
    });
  });
  afterAll(async () => {
    expect(scene.rig.github.state.breaches).toEqual([]);
    await scene.rig.stop();
  });
  const isApp = (place: CrashPoint) => place.startsWith("app:");
  const crash = {
    get scene(): Scene {
      return scene;
    },
    /** Starts app or daemon anew, so that it dies at `place`. */
    async arm(place: CrashPoint) {
      if (isApp(place)) {
        await scene.app.kill("SIGKILL");
        scene.app = await scene.rig.startApp({ TRIMO_CRASH: place });
        return;
      }
      await scene.daemon.kill("SIGKILL");
      const connections = () => scene.daemon.output().match(/"connected"/g)?.length ?? 0;
      const before = connections();
      scene.daemon = scene.startDaemon({}, { TRIMO_CRASH: place });
      await until("the daemon", () => connections() > before);
    },
    /** Waits for the death, and starts anew without it. */
    async reviveAfter(place: CrashPoint) {
      const isDead = ({ process }: Program) => process.signalCode === "SIGKILL";
      await until(`the death: ${place}`, () => isDead(isApp(place) ? scene.app : scene.daemon));
      if (isApp(place)) scene.app = await scene.rig.startApp();
      else scene.daemon = scene.startDaemon();
    },
    /** One comment, one pull request, and nothing on the machine. */
    async expectOnce(issue: number) {
      expect(await scene.rig.github.comments(repository, issue)).toHaveLength(1);
      expect(await scene.pullOf(issue)).toHaveLength(1);
      await until("nothing left behind", () => leftovers(scene.rig).length === 0);
    },
    /** A run that ends well though app or daemon dies at `place`. */
    async expectOutlived(place: CrashPoint) {
      await crash.arm(place);
      const issue = await scene.begin(place, "brief");
      await crash.reviveAfter(place);
      expect((await scene.finalComment(issue)).body).toContain("✅ **Run 1**");
      expect(await scene.subjects(issue)).toEqual(["Step", leftover]);
      await crash.expectOnce(issue);
    },
  };
  return crash;
}
