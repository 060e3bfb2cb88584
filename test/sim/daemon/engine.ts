import { type ContainerRequest, volumeName } from "../../../daemon/docker/container-spec.ts";
import { DockerError, type Engine } from "../../../daemon/docker/engine.ts";
import { contractLabel, contractVersion } from "../../../daemon/images/base.ts";
import { places } from "../../../images/base/task.ts";
import { between, type Process, type World } from "../world.ts";
import { Container, type Volume } from "./container.ts";
import type { Work } from "./work.ts";

const answerMs = { least: 2, most: 150 };

type Watch = { agentBegins(run: string): void; agentEnds(run: string): void };

/** A machine's container engine: containers and volumes outlive its daemons, and it can be away. */
export class MemoryEngine {
  readonly containers = new Map<string, Container>();
  readonly volumes = new Map<string, Volume>();
  readonly #world: World;
  readonly #work: Work;
  readonly #watch: Watch;
  #awayUntil = 0;
  #counts = 0;
  /** What waits for a container's end: an engine that goes breaks it off. */
  #broken: (() => void)[] = [];

  constructor(world: World, work: Work, watch: Watch) {
    this.#world = world;
    this.#work = work;
    this.#watch = watch;
  }

  /** It does not answer for so long; `deadly`: it takes its containers with it. */
  goAway(ms: number, deadly: boolean) {
    this.#awayUntil = this.#world.now + ms;
    for (const container of this.containers.values()) {
      if (deadly) container.kill();
      container.cutTunnel();
    }
    this.breakOff();
  }

  /** Its connections end. */
  breakOff() {
    for (const end of this.#broken.splice(0)) end();
    for (const container of this.containers.values()) container.cutTunnel();
  }

  killOne() {
    [...this.containers.values()].find(({ running }) => running)?.kill();
  }

  /** The engine as one daemon sees it. */
  as(process: Process): Engine {
    const ask = <Args extends unknown[], T>(work: (...args: Args) => T) =>
      process.guard(async (...args: Args): Promise<Awaited<T>> => {
        await this.#answers(process);
        const result = await work(...args);
        await this.#answers(process);
        return result;
      });
    const nothing = ask(() => {});
    const none = ask(() => []);
    const { containers, volumes } = this;
    return {
      ping: nothing,
      version: ask(() => ({ version: "27", os: "linux", cpu: "amd64" })),
      folder: ask(() => "/docker"),
      startContainer: ask((request: ContainerRequest) => this.#start(request)),
      exec: ask((name: string) => {
        const container = containers.get(name);
        if (!container?.running) throw new DockerError("gone", `${name} is not running`);
        return container.openTunnel();
      }),
      stateOf: ask((name: string) => {
        const found = containers.get(name);
        if (!found) return null;
        const { running } = found;
        return { running, started: true, exitCode: running ? 0 : 137, outOfMemory: false };
      }),
      logsOf: ask(() => ""),
      readFile: ask((name: string, path: string) =>
        Buffer.from(path === places.journal ? (containers.get(name)?.journal ?? "") : ""),
      ),
      waitForEnd: process.guard(async (name: string) => {
        await this.#answers(process);
        const away = new Promise<never>((_, reject) => {
          this.#broken.push(() => reject(new DockerError("unavailable", "socket hang up")));
        });
        await Promise.race([containers.get(name)?.ended, away]);
      }),
      askToStop: ask((name: string) => containers.get(name)?.stop()),
      kill: ask((name: string) => containers.get(name)?.kill()),
      removeContainer: ask((name: string) => {
        containers.get(name)?.kill();
        containers.delete(name);
      }),
      removeVolume: ask((name: string) => {
        if (containers.has(name)) throw new DockerError("other", "volume is in use");
        volumes.delete(name);
      }),
      ownedContainers: ask(() =>
        [...containers.values()].map(({ name, volume }) => ({ id: name, run: volume.run })),
      ),
      ownedVolumes: ask(() => [...volumes.values()].map(({ name, run }) => ({ name, run }))),
      image: ask((name: string) => ({
        id: name,
        tags: [name],
        labels: { [contractLabel]: contractVersion },
        sizeBytes: 1,
        os: "linux",
        cpu: "amd64",
        env: [],
        exposed: [],
      })),
      taggedImages: none,
      layersOf: none,
      removeImage: nothing,
      pullImage: nothing,
      importImage: nothing,
      buildImage: nothing,
    };
  }

  /** One half of a question's way; an engine that goes in the middle has done what was asked, unheard. */
  async #answers({ clock, pause }: Process) {
    await pause(between(clock.chance, answerMs.least, answerMs.most) / 2);
    if (this.#world.now < this.#awayUntil)
      throw new DockerError("unavailable", "connect ECONNREFUSED /var/run/docker.sock");
  }

  #start({ run, attempt }: ContainerRequest) {
    const name = volumeName(run, attempt);
    if (this.containers.has(name)) throw new DockerError("other", `${name} is in use`);
    const volume = this.volumes.get(name) ?? { name, run, head: null, drafts: [] };
    this.volumes.set(name, volume);
    this.#counts += 1;
    const container = new Container({
      world: this.#world,
      work: this.#work,
      volume,
      count: this.#counts,
      onAgent: () => this.#watch.agentBegins(run),
      onEnd: () => this.#watch.agentEnds(run),
    });
    this.containers.set(name, container);
    return {
      container: name,
      hand: (task: string) => container.hand(task),
      abandon: () => container.abandon(),
    };
  }
}
