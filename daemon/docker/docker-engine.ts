import type { Duplex, Readable } from "node:stream";
import Dockerode from "dockerode";
import { type Clock, systemClock } from "../../app/protocol/clock.ts";
import { type ContainerRequest, containerSpec } from "./container-spec.ts";
import {
  type BuildMessage,
  type BuildRequest,
  type Carrier,
  type ContainerState,
  DockerError,
  type Engine,
  type EngineVersion,
  type Image,
  problemOf,
  type Started,
} from "./engine.ts";
import { demultiplexed, firstOfTar, unframed } from "./framing.ts";

const never = new AbortController().signal;
/** A removal that the engine refuses is asked for again after so long, in milliseconds. */
const removalRetryMs = 250;
const removalTriesMax = 20;
/** A larger file is read up to here. */
const fileBytesMax = 80 * 2 ** 20;
const cpuPeriod = 100_000;
/**
 * A question without an answer by then, in milliseconds, is an engine that is away: docker-modem never calls
 * back when an answer breaks off between its head and its body. Making and removing may take longer.
 */
const answerMsMax = 30_000;
const workMsMax = 120_000;

/** The only file that imports dockerode. */
class DockerEngine implements Engine {
  #docker: Dockerode;
  #clock: Clock;
  #folder: string | null = null;

  constructor(docker: Dockerode, clock: Clock) {
    this.#docker = docker;
    this.#clock = clock;
  }

  async ping() {
    await this.#ask(() => this.#docker.ping());
  }

  async version(): Promise<EngineVersion> {
    const { Version, Os, Arch } = await this.#ask(() => this.#docker.version());
    return { version: Version, os: Os, cpu: Arch };
  }

  async folder(): Promise<string> {
    // It takes a while to say.
    this.#folder ??= (
      (await this.#ask(() => this.#docker.info())) as { DockerRootDir: string }
    ).DockerRootDir;
    return this.#folder;
  }

  async startContainer(request: ContainerRequest): Promise<Started> {
    return await translated(async () => {
      const spec = containerSpec(request);
      const container = await this.#ask(() => this.#docker.createContainer(spec), workMsMax);
      try {
        const stdin = await hijacked((abortSignal) =>
          container.attach({ stream: true, stdin: true, hijack: true, abortSignal }),
        );
        // The container ended before it had its task: following it finds out.
        stdin.on("error", () => {});
        await this.#ask(() => container.start(), workMsMax);
        return {
          container: container.id,
          hand: (task) => void stdin.end(task),
          abandon: () => (stdin as Duplex).destroy(),
        };
      } catch (error) {
        await this.removeContainer(container.id);
        throw error;
      }
    });
  }

  async exec(container: string, command: string[]): Promise<Carrier> {
    return await translated(async () => {
      const options = {
        Cmd: command,
        User: "65534:65534",
        AttachStdin: true,
        AttachStdout: true,
        AttachStderr: true,
        WorkingDir: "/",
      };
      const exec = await this.#ask(() => this.#docker.getContainer(container).exec(options));
      const stream = await hijacked((abortSignal) =>
        exec.start({ hijack: true, stdin: true, abortSignal }),
      );
      const output = demultiplexed(stream);
      // It may break before anybody listens, which would end the process.
      stream.on("error", () => output.destroy());
      return { input: stream, output };
    });
  }

  async stateOf(container: string): Promise<ContainerState | null> {
    const inspect = () => this.#docker.getContainer(container).inspect();
    const found = await unlessGone(() => this.#answered(inspect), null);
    return (
      found && {
        running: found.State.Running,
        started: found.State.Status !== "created",
        exitCode: found.State.ExitCode,
        outOfMemory: found.State.OOMKilled,
      }
    );
  }

  async logsOf(container: string): Promise<string> {
    const options = { stdout: true, stderr: true, tail: 30, follow: false } as const;
    const logs = () => this.#docker.getContainer(container).logs(options);
    return unframed(
      (await unlessGone(() => this.#answered(logs), Buffer.alloc(0))) as unknown as Buffer,
    );
  }

  async readFile(container: string, path: string): Promise<Buffer> {
    return await unlessGone(async () => {
      const archive = await this.#docker.getContainer(container).getArchive({ path });
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of archive) {
        chunks.push(chunk as Buffer);
        bytes += (chunk as Buffer).length;
        if (bytes > fileBytesMax) break;
      }
      return firstOfTar(Buffer.concat(chunks));
    }, Buffer.alloc(0));
  }

  async waitForEnd(container: string) {
    await unlessGone(() => this.#docker.getContainer(container).wait(), null);
  }

  async askToStop(container: string) {
    await this.#signal(container, "SIGTERM");
  }

  async kill(container: string) {
    await this.#signal(container, "SIGKILL");
  }

  /** Asks what has a short answer. */
  async #ask<T>(question: () => Promise<T>, msMax = answerMsMax): Promise<T> {
    return await translated(() => this.#answered(question, msMax));
  }

  /** As `#ask`, with an error as it comes: its status may mean something. */
  async #answered<T>(question: () => Promise<T>, msMax = answerMsMax): Promise<T> {
    const answered = new AbortController();
    const late = this.#clock.sleep(msMax, answered.signal).then(() => {
      throw new DockerError("unavailable", `Docker has not answered for ${msMax / 1_000} s`);
    });
    // The answer came first.
    late.catch(() => {});
    try {
      return await Promise.race([question(), late]);
    } finally {
      answered.abort();
    }
  }

  async #signal(container: string, signal: string) {
    try {
      await this.#answered(() => this.#docker.getContainer(container).kill({ signal }));
    } catch (error) {
      // 409: not running any more; 404: gone.
      if (statusOf(error) !== 409 && statusOf(error) !== 404) throw translate(error);
    }
  }

  async removeContainer(container: string) {
    // 409: a removal is under way already.
    await this.#remove(() => this.#docker.getContainer(container).remove({ force: true, v: true }));
  }

  async removeVolume(name: string) {
    // 409: its container is still being removed.
    await this.#remove(() => this.#docker.getVolume(name).remove({ force: true }));
  }

  async #remove(remove: () => Promise<unknown>) {
    for (let tries = 0; ; tries++) {
      try {
        await this.#answered(remove, workMsMax);
        return;
      } catch (error) {
        if (statusOf(error) === 404) return;
        if (tries >= removalTriesMax) throw translate(error);
        await this.#clock.sleep(removalRetryMs, never);
      }
    }
  }

  async ownedContainers(label: string) {
    const filters = { label: [label] };
    const rows = await this.#ask(() => this.#docker.listContainers({ all: true, filters }));
    return rows.map((row) => ({ id: row.Id, run: row.Labels["dev.trimo.run"] ?? null }));
  }

  async ownedVolumes(label: string) {
    // The callback's type hides the promise's.
    const list = () =>
      this.#docker.listVolumes({ filters: { label: [label] } } as never) as unknown;
    const answer = (await this.#ask(async () => await list())) as {
      Volumes: Dockerode.VolumeInspectInfo[] | null;
    };
    return (answer.Volumes ?? []).map((row) => ({
      name: row.Name,
      run: row.Labels?.["dev.trimo.run"] ?? null,
    }));
  }

  async image(name: string): Promise<Image | null> {
    const inspect = () => this.#docker.getImage(name).inspect();
    const found = await unlessGone(() => this.#answered(inspect), null);
    return (
      found && {
        id: found.Id,
        tags: found.RepoTags ?? [],
        labels: found.Config?.Labels ?? {},
        sizeBytes: found.Size,
        os: found.Os,
        cpu: found.Architecture,
        env: found.Config?.Env ?? [],
        exposed: Object.keys(found.Config?.ExposedPorts ?? {}),
      }
    );
  }

  async taggedImages(label: string): Promise<string[]> {
    const filters = JSON.stringify({ label: [label] });
    const rows = await this.#ask(() => this.#docker.listImages({ filters }));
    return rows.flatMap(({ RepoTags }) => RepoTags ?? []);
  }

  async layersOf(image: string) {
    const rows = await this.#ask(() => this.#docker.getImage(image).history());
    return (rows as { Size: number; CreatedBy: string }[]).map(({ Size, CreatedBy }) => ({
      sizeBytes: Size,
      createdBy: CreatedBy,
    }));
  }

  async removeImage(image: string) {
    await this.#ask(() => this.#docker.getImage(image).remove(), workMsMax);
  }

  async pullImage(name: string) {
    await translated(async () => await this.#drain(await this.#docker.pull(name), () => {}));
  }

  async importImage(tar: Readable, tag: string) {
    const [repo = "", name = ""] = tag.split(":");
    await translated(async () => {
      const options = { repo, tag: name };
      const stream = await this.#docker.importImage(tar as never, options as never);
      await this.#drain(stream as never, () => {});
    });
  }

  async buildImage(
    context: Readable,
    request: BuildRequest,
    hear: (message: BuildMessage) => void,
    signal: AbortSignal,
  ) {
    await translated(async () => {
      const options = { ...optionsOf(request), abortSignal: signal };
      await this.#drain(await this.#docker.buildImage(context, options), hear);
    });
  }

  async #drain(stream: NodeJS.ReadableStream, hear: (message: BuildMessage) => void) {
    await new Promise<void>((resolve, reject) => {
      this.#docker.modem.followProgress(
        stream,
        (error: Error | null) => (error ? reject(error) : resolve()),
        hear,
      );
    });
  }
}

/** The engine at `DOCKER_HOST`, or at the usual socket; nothing is asked of it yet. */
export function connectDocker(clock: Clock = systemClock): Engine {
  return new DockerEngine(new Dockerode(), clock);
}

function optionsOf({ tag, dockerfile, labels, args, platform, fresh, limits }: BuildRequest) {
  return {
    t: tag,
    dockerfile,
    labels,
    buildargs: args,
    rm: true,
    forcerm: true,
    nocache: fresh,
    ...(platform ? { platform } : {}),
    ...(limits
      ? {
          memory: limits.memoryBytes,
          memswap: limits.memoryBytes,
          cpuperiod: cpuPeriod,
          cpuquota: Math.round(limits.cpus * cpuPeriod),
        }
      : {}),
  };
}

/**
 * A connection that becomes a stream. Refused, its request is ended here: docker-modem leaves one with
 * stdin open, and with it the socket, for as long as the process lives.
 */
async function hijacked<T>(open: (abortSignal: AbortSignal) => Promise<T>): Promise<T> {
  const refused = new AbortController();
  try {
    return await open(refused.signal);
  } catch (error) {
    refused.abort();
    throw error;
  }
}

/** `otherwise` when the engine does not have it. */
async function unlessGone<T>(work: () => Promise<T>, otherwise: T): Promise<T>;
async function unlessGone<T>(work: () => Promise<T>, otherwise: null): Promise<T | null>;
async function unlessGone<T>(work: () => Promise<T>, otherwise: T | null): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (statusOf(error) === 404) return otherwise;
    throw translate(error);
  }
}

async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw translate(error);
  }
}

function translate(error: unknown): DockerError {
  if (error instanceof DockerError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = (error as { code?: string }).code ?? "";
  if (["ECONNREFUSED", "ENOENT", "EACCES", "ECONNRESET", "EPIPE"].includes(code))
    return new DockerError("unavailable", `Docker does not answer: ${message}`);
  const problem = problemOf(message);
  if (problem.kind !== "other") return problem;
  if (statusOf(error) === 404 && /no such image/i.test(message))
    return new DockerError("image_missing", message);
  if (statusOf(error) === 404) return new DockerError("gone", message);
  return problem;
}

function statusOf(error: unknown): number {
  return (error as { statusCode?: number }).statusCode ?? 0;
}
