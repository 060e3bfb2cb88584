import { mkdirSync } from "node:fs";
import type { Logger } from "pino";
import { systemClock } from "../app/protocol/clock.ts";
import { RunningState } from "../app/protocol/running-state.ts";
import type { Config } from "./config.ts";
import { fileDisk } from "./disk.ts";
import { connectDocker } from "./docker/docker-engine.ts";
import { openPool } from "./gateway/model/model.ts";
import { identityOf } from "./identity.ts";
import { Builds } from "./images/builds.ts";
import { LockedError, lock } from "./lock.ts";
import { GitRepositories } from "./repository/git-repositories.ts";
import type { Parts } from "./run/attempt.ts";
import { pushKeptLoop } from "./run/push-kept.ts";
import { Slots } from "./run/slots.ts";
import { connectServer } from "./server/client.ts";
import { keepConnection } from "./server/connection.ts";
import { sweepLoop } from "./sweep.ts";

/** Between two connections when a run was left unsettled, in milliseconds. */
const reconnectMs = 1_000;

type Daemon = {
  /** Finishes what is under way, takes nothing new. */
  drain(): Promise<void>;
  /** Goes at once; containers run on for the next daemon to find. */
  leave(): Promise<void>;
  /** Rejects when the app refuses this daemon for good. */
  ended: Promise<void>;
};

/** Why a daemon cannot start here: a sentence, and what to do. */
export class StartError extends Error {}

/** Builds every part as it is on this machine, and connects; only one daemon works in a data folder. */
export async function startDaemon(config: Config, version: string, log: Logger): Promise<Daemon> {
  const engine = connectDocker();
  mkdirSync(config.data, { recursive: true, mode: 0o700 });
  const unlock = lockOrExplain(config.data);
  try {
    await engine.ping();
  } catch (error) {
    unlock();
    throw new StartError(
      `No Docker Engine answers: ${error instanceof Error ? error.message : error}\n  Trimo runs each agent in a container of its own.\n  Start Docker Desktop, or on Debian/Ubuntu: sudo apt-get install docker.io && sudo systemctl start docker`,
    );
  }
  const identity = identityOf(config.data);
  const parts = { config, engine, disk: fileDisk, clock: systemClock, log, identity };
  return connect(
    {
      ...parts,
      server: connectServer(config.server, config.token),
      repositories: new GitRepositories(config.data, config.github),
      builds: new Builds(parts),
      pool: openPool(),
    },
    version,
    unlock,
  );
}

function lockOrExplain(data: string): () => void {
  try {
    return lock(data, systemClock);
  } catch (error) {
    if (error instanceof LockedError) throw new StartError(error.message);
    throw error;
  }
}

/** Works with these parts until told to end, and calls `ended` then. */
export function connect(parts: Parts, version: string, ended: () => void): Daemon {
  const { config, server, clock, log } = parts;
  const stop = new AbortController();
  let claiming: Promise<void> | null = null;
  let die: (error: unknown) => void = () => {};
  const dead = new Promise<never>((_, reject) => {
    die = reject;
  });
  // Whoever waits for the daemon's end hears of it.
  dead.catch(() => {});
  let connecting = new RunningState(clock, stop.signal);
  const slots = new Slots(parts, version, {
    connected(name) {
      log.info({ name, server: config.server, slots: config.slots }, "connected");
      // Not before the first hello: what an earlier daemon left takes its slots first.
      claiming ??= slots.claimLoop().catch((error) => {
        log.fatal({ err: error }, "claiming ended; stopping, so that the daemon is started again");
        die(error);
        throw error;
      });
      // Told above.
      claiming.catch(() => {});
    },
    // A run that was left unsettled needs the app's word: then the connection begins anew.
    orphan: () => connecting.stop(),
  });
  const keepConnected = async () => {
    const life = new RunningState(clock, stop.signal);
    while (life.running) {
      connecting = new RunningState(clock, stop.signal);
      await keepConnection({ server, listener: slots, log }, connecting);
      await life.sleep(reconnectMs);
    }
  };
  const connection = keepConnected();
  const sweeping = sweepLoop(parts, new RunningState(clock, stop.signal));
  const pushing = pushKeptLoop(parts, new RunningState(clock, stop.signal));
  const finish = async () => {
    stop.abort();
    await Promise.allSettled([connection, sweeping, pushing, claiming]);
    ended();
  };
  return {
    async drain() {
      log.info({ running: slots.running }, "draining: finishing what is under way");
      await slots.drain();
      await finish();
    },
    async leave() {
      await slots.leave();
      await finish();
    },
    // A daemon that claims no more must not look well.
    ended: Promise.race([connection, dead]),
  };
}
