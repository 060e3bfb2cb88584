import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chanceOf } from "../sim/world.ts";
import { buildDist } from "../support/dist.ts";
import { startEngineProxy } from "../support/engine-proxy.ts";
import { containers, docker, leftovers, type Program, script, startRig } from "../support/rig.ts";
import { repository } from "../support/scene.ts";
import { Look, print } from "./look.ts";

// npm run soak -- --runs 2000 [--seed N]: thousands of runs of an agent that only commits, with app, daemon,
// containers and connections to the engine killed all the while. A line a minute; then what grew, what is left
// over, and one line of JSON. Ends with 1 where something is left or a run never ended. Ctrl-C ends it early.

const runsOfPipeline = 5;
const issuesAtOnce = 6;
/** So long may a pipeline stand still before it counts as stuck, in milliseconds. */
const stuckMs = 10 * 60_000;
const lookEveryMs = 60_000;
const harmEveryMs = 15_000;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "2000" },
    seed: { type: "string", default: "1" },
  },
});
const most = Number(values.runs);
const chance = chanceOf(Number(values.seed), "soak");

buildDist();
const folder = mkdtempSync(join(tmpdir(), "trimo-soak-"));
const engine = await startEngineProxy(join(folder, "docker.sock"));
const rig = await startRig({ from: "dist", people: { ana: "admin" } });
/** The fastest that the app takes: GitHub's pace is not what is tried here. */
const appEnv = { TRIMO_WRITES_PER_MINUTE: "6000" };
let app = await rig.startApp(appEnv);
const token = rig.enroll("soak");
const daemonYml = {
  slots: 3,
  limits: { memory: "256m", cpus: 1, minutes: 5 },
  agents: {
    commits: script("echo $TRIMO_RUN > RUN; git add -A; git commit -qm Run; echo left > LEFT"),
  },
};
const startDaemon = (): Program =>
  rig.startDaemon("soak", token, daemonYml, {
    DOCKER_HOST: `unix://${join(folder, "docker.sock")}`,
  });
let daemon = startDaemon();
const look = await Look.open(rig.folder);

const harms: Record<string, () => Promise<void>> = {
  "the app": async () => {
    if (app.process.exitCode !== null) ended.push("the app");
    await app.kill("SIGKILL");
    await pause(chance() * 5_000);
    app = await rig.startApp(appEnv);
  },
  "the daemon": async () => {
    if (daemon.process.exitCode !== null) ended.push("the daemon");
    await daemon.kill("SIGKILL");
    await pause(chance() * 5_000);
    daemon = startDaemon();
  },
  "a container": async () => {
    const [one] = containers(rig);
    // It may end by itself meanwhile.
    if (one) docker("rm", "-f", one);
  },
  "connections to the engine": async () => {
    await engine.stop();
    await pause(chance() * 5_000);
    await engine.start();
  },
};

const done = new Map<string, number>();
const stuck: string[] = [];
/** Programs that ended without having been killed. */
const ended: string[] = [];
let begun = 0;
let finished = false;
/** Ctrl-C ends it early: what has begun comes to its end, and the report is printed. */
let enough = false;
process.on("SIGINT", () => {
  enough = true;
});

/** One pipeline after another, until enough runs have begun. */
async function work() {
  while (begun < most && !enough) {
    const issue = await rig.github.openIssue("ana", repository, "Soak", "");
    for (let number = 1; number <= runsOfPipeline && begun < most && !enough; number++) {
      begun += 1;
      if (number === 1) await rig.github.label("ana", repository, issue, "trimo");
      else await rig.github.comment("ana", repository, issue, `/trimo run number ${number}`);
      if (await look.waitForEnd(issue, number, stuckMs)) continue;
      stuck.push(`run ${number} of #${issue}`);
      break;
    }
  }
}

async function harm() {
  while (!finished) {
    await pause(harmEveryMs * (0.5 + chance()));
    if (finished) return;
    const names = Object.keys(harms);
    const name = names[Math.floor(chance() * names.length)] ?? "";
    await harms[name]?.().catch((error) => process.stderr.write(`· ${name}: ${error}\n`));
    done.set(name, (done.get(name) ?? 0) + 1);
  }
}

async function watch() {
  const began = performance.now();
  while (!finished) {
    await pause(lookEveryMs);
    const minutes = Math.round((performance.now() - began) / 60_000);
    const seen = await look.take({ app, daemon }, minutes).catch(() => null);
    if (seen)
      process.stderr.write(
        `· ${minutes} min: ${seen.ended} of ${most} runs, app ${seen.appMb} MB, daemon ${seen.daemonMb} MB\n`,
      );
  }
}

await rig.configure(repository, "agent: commits\n");
const harming = harm();
const watching = watch();
await Promise.all(Array.from({ length: issuesAtOnce }, work));
finished = true;
await harming;
// What is to be swept or told is done by then.
await pause(60_000);
const last = await look.take({ app, daemon }, Number.NaN);
const left = [...ended, ...leftovers(rig), ...look.openRuns(), ...look.folders()];
await Promise.race([watching, pause(0)]);
look.close();
print({ look, last, harms: Object.fromEntries(done), stuck, left });
await rig.stop();
await engine.stop();
rmSync(folder, { recursive: true, force: true });
process.exit(stuck.length + left.length > 0 ? 1 : 0);
