import { pino } from "pino";
import type { Dispatcher } from "undici";
import { type Config, DaemonYml } from "../../../daemon/config.ts";
import { Builds } from "../../../daemon/images/builds.ts";
import { connect } from "../../../daemon/main.ts";
import { readKept } from "../../../daemon/run/kept.ts";
import { connectServer } from "../../../daemon/server/client.ts";
import type { Machine, Parts } from "../machine.ts";
import type { Item } from "../story.ts";
import type { Process, World } from "../world.ts";
import { MemoryDisk } from "./disk.ts";
import { MemoryEngine } from "./engine.ts";
import { createRepositories, headFile } from "./repositories.ts";
import { createTransport } from "./transport.ts";
import type { Work } from "./work.ts";

// A machine with the daemon's real code: its disk, engine, git and network are the world's.

const data = "/trimo/daemon";

type RealParts = Parts & {
  /** Gathers what agents make. */
  work: Work;
  violate: (what: string) => void;
};

/** Makes a machine that is off. */
export function createRealMachine(parts: RealParts, name: string, token: string): Machine {
  const { world, work, watch, violate, github, faults } = parts;
  const disk = new MemoryDisk(world);
  const log = logOf(world, name);
  const config = configOf(token);
  let process: Process | null = null;
  let starts = 0;
  const working = new Set<string>();
  const engine = new MemoryEngine(world, work, {
    agentBegins: (run) => {
      working.add(run);
      watch.begins(name, { run });
    },
    agentEnds: (run) => {
      if (working.delete(run)) watch.ends(name, { run });
    },
  });
  const mirrored = new Set<string>();

  const kept = () => (process ? readKept({ disk: disk.as(process), config }) : []);
  const keptVolumes = () => new Set(kept().map(({ volume }) => volume));

  function start() {
    if (process?.alive) return;
    starts += 1;
    world.say(name, "starts");
    process = world.process(`${name}-start-${starts}`);
    const transport = createTransport({ ...parts, process, name, token });
    const pushes = (of: { run: string; attempt: number }) => watch.pushes(name, of);
    const git = { world, faults, github, work, disk, process, pushes, mirrored };
    const seen = {
      config,
      log,
      identity: name,
      clock: process.clock,
      engine: engine.as(process),
      disk: disk.as(process),
    };
    const all = {
      ...seen,
      server: connectServer(config.server, token, transport),
      repositories: createRepositories(git),
      builds: new Builds(seen),
      pool: {} as Dispatcher,
    };
    const daemon = connect(all, "0", () => {});
    daemon.ended.catch((error) => violate(`the daemon ended: ${error}`));
  }

  function kill() {
    if (!process?.alive) return;
    world.say(name, "is killed");
    process.kill();
    engine.breakOff();
    for (const run of working) watch.ends(name, { run });
  }

  return {
    name,
    start,
    kill,
    // The stream tells it.
    wake() {},
    cancel() {},
    isIdle: () => disk.under(`${data}/runs`).length === 0 && engine.containers.size === 0,
    strike(item: Item) {
      if (!("fault" in item)) return;
      if (item.fault === "engine") {
        world.say(name, "has no engine for", item.ms / 1_000, "s", item.deadly ? "(deadly)" : "");
        engine.goAway(item.ms, item.deadly);
      } else if (item.fault === "container") engine.killOne();
      else if (item.fault === "full") disk.fullUntil = world.now + item.ms;
      else if (item.fault === "power") {
        world.say(name, "has no power for", item.ms / 1_000, "s");
        kill();
        for (const container of engine.containers.values()) container.kill();
        disk.cutPower(world.chance(`${name}-power-${starts}`));
        world.at(item.ms, start);
      }
    },
    calm() {
      engine.goAway(0, false);
      disk.fullUntil = 0;
    },
    leftovers: () => [...engine.volumes.keys()].filter((volume) => !keptVolumes().has(volume)),
    edits: () => [
      ...kept().flatMap(({ commits }) =>
        commits ? work.editsOf(disk.files.get(headFile(commits))?.text) : [],
      ),
      ...[...engine.volumes.values()].flatMap(({ head, drafts }) => [
        ...work.editsOf(head ?? undefined),
        ...drafts,
      ]),
    ],
  };
}

function configOf(token: string): Config {
  const { limits: _, ...yml } = DaemonYml.parse({
    agents: { hello: { adapter: "script", command: ["true"] } },
  });
  const limits = {
    cpus: 1,
    memory: "512m",
    pids: 100,
    disk: "1g",
    minutes: 60,
    preboot_seconds: 60,
  };
  return { ...yml, server: "https://trimo.example", token, data, limits };
}

/** A daemon's log, as lines of the trace. */
function logOf(world: World, name: string) {
  const write = (line: string) => {
    const { level, msg, run = "", err, why } = JSON.parse(line);
    world.say(name, level >= 40 ? "warns:" : "notes:", msg, run, err?.message ?? why ?? "");
  };
  return pino({ base: null, timestamp: false }, { write });
}
