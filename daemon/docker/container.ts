import { type Duplex, type Readable, Transform, type TransformCallback } from "node:stream";
import Dockerode, { type ContainerCreateOptions } from "dockerode";
import { systemClock } from "../../app/protocol/clock.ts";

const never = new AbortController().signal;
/** The engine may still be at the one before: it is asked again after so long, in milliseconds. */
const removalRetryMs = 250;

/** The only file that imports dockerode. */
export type Docker = Dockerode;
export type Container = Dockerode.Container;

/** Why the engine did not do it, translated once. */
export class DockerError extends Error {
  readonly kind: "unavailable" | "image_missing" | "disk_full" | "gone" | "other";
  constructor(kind: DockerError["kind"], message: string) {
    super(message);
    this.kind = kind;
  }
}

const folders = new WeakMap<Docker, string>();
/** Where the engine keeps images, containers and volumes; asked once, for it takes a while to say. */
export async function engineFolder(docker: Docker): Promise<string> {
  const known = folders.get(docker);
  if (known) return known;
  return await translated(async () => {
    const { DockerRootDir } = (await docker.info()) as { DockerRootDir: string };
    folders.set(docker, DockerRootDir);
    return DockerRootDir;
  });
}

/** `DOCKER_HOST`, or the usual socket. */
export function connectDocker(): Docker {
  return new Dockerode();
}

/** A container that runs and waits for its task on stdin. */
export type Started = {
  container: Container;
  /** All of it, once; from here on the container works. */
  hand(task: string): void;
  /** It never gets one, and ends by itself. */
  abandon(): void;
};

/** Creates the container with its volume and starts it; it does nothing before its task comes. */
export async function startContainer(
  docker: Docker,
  spec: ContainerCreateOptions,
): Promise<Started> {
  return await translated(async () => {
    const container = await docker.createContainer(spec);
    try {
      const stdin = await hijacked((abortSignal) =>
        container.attach({ stream: true, stdin: true, hijack: true, abortSignal }),
      );
      // The container ended before it had its task: following it finds out.
      stdin.on("error", () => {});
      await container.start();
      return {
        container,
        hand: (task) => void stdin.end(task),
        abandon: () => (stdin as Duplex).destroy(),
      };
    } catch (error) {
      await removeContainer(container);
      throw error;
    }
  });
}

/** The stdio of a process in a container, as a pair of streams. */
export type Carrier = { input: Duplex; output: Readable };

/** Runs `command` as a user without any right. */
export async function openExec(container: Container, command: string[]): Promise<Carrier> {
  return await translated(async () => {
    const exec = await container.exec({
      Cmd: command,
      User: "65534:65534",
      AttachStdin: true,
      AttachStdout: true,
      AttachStderr: true,
      WorkingDir: "/",
    });
    const stream = await hijacked((abortSignal) =>
      exec.start({ hijack: true, stdin: true, abortSignal }),
    );
    return { input: stream, output: demultiplexed(stream) };
  });
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

/** Stdout out of Docker's framing (type, 3 zeros, length, payload), heeding back-pressure. */
function demultiplexed(stream: Duplex): Readable {
  return stream.pipe(new Demultiplexer());
}

class Demultiplexer extends Transform {
  #rest: Buffer = Buffer.alloc(0);

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback) {
    let data = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    while (data.length >= 8) {
      const length = data.readUInt32BE(4);
      if (data.length < 8 + length) break;
      if (data[0] === 1) this.push(data.subarray(8, 8 + length));
      data = data.subarray(8 + length);
    }
    this.#rest = data;
    done();
  }
}

type ContainerState = {
  running: boolean;
  /** False while it was only created. */
  started: boolean;
  exitCode: number;
  outOfMemory: boolean;
};

/** Null when the container is gone. */
export async function stateOf(container: Container): Promise<ContainerState | null> {
  try {
    const { State } = await container.inspect();
    const started = State.Status !== "created";
    return {
      running: State.Running,
      started,
      exitCode: State.ExitCode,
      outOfMemory: State.OOMKilled,
    };
  } catch (error) {
    if (statusOf(error) === 404) return null;
    throw translate(error);
  }
}

/** The end of what its first process printed: why it ended, when it should not have. */
export async function logsOf(container: Container): Promise<string> {
  try {
    const options = { stdout: true, stderr: true, tail: 30, follow: false } as const;
    const raw = (await container.logs(options)) as unknown as Buffer;
    let text = "";
    for (let at = 0; at + 8 <= raw.length; at += 8 + raw.readUInt32BE(at + 4))
      text += raw.subarray(at + 8, at + 8 + raw.readUInt32BE(at + 4)).toString("utf8");
    return text;
  } catch (error) {
    if (statusOf(error) === 404) return "";
    throw translate(error);
  }
}

/** Resolves when the container is no longer running, however it ended. */
export async function waitForEnd(container: Container): Promise<void> {
  try {
    await container.wait();
  } catch (error) {
    if (statusOf(error) !== 404) throw translate(error);
  }
}

/** Asks the container's first process to stop; it commits before it ends. */
export async function askToStop(container: Container): Promise<void> {
  try {
    await container.kill({ signal: "SIGTERM" });
  } catch (error) {
    // 409: not running any more; 404: gone.
    if (statusOf(error) !== 409 && statusOf(error) !== 404) throw translate(error);
  }
}

/** Ends every process of it at once, and removes it. Nothing to do when it is gone. */
export async function removeContainer(container: Container): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await container.remove({ force: true, v: true });
      return;
    } catch (error) {
      const status = statusOf(error);
      if (status === 404) return;
      // 409: a removal is under way already.
      if (tries >= 20) throw translate(error);
      await systemClock.sleep(removalRetryMs, never);
    }
  }
}

export async function removeVolume(docker: Docker, name: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await docker.getVolume(name).remove({ force: true });
      return;
    } catch (error) {
      if (statusOf(error) === 404) return;
      // 409: its container is still being removed.
      if (tries >= 20) throw translate(error);
      await systemClock.sleep(removalRetryMs, never);
    }
  }
}

/** A larger file is read up to here. */
const fileBytesMax = 80 * 2 ** 20;

/** A file of a container that may have stopped; empty when it is not there. */
export async function readFileOf(container: Container, path: string): Promise<Buffer> {
  try {
    const archive = await container.getArchive({ path });
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of archive) {
      chunks.push(chunk as Buffer);
      bytes += (chunk as Buffer).length;
      if (bytes > fileBytesMax) break;
    }
    return firstOfTar(Buffer.concat(chunks));
  } catch (error) {
    if (statusOf(error) === 404) return Buffer.alloc(0);
    throw translate(error);
  }
}

/** The one file of a ustar archive: its size in octal at byte 124, its bytes after the first block. */
function firstOfTar(tar: Buffer): Buffer {
  if (tar.length < 512) return Buffer.alloc(0);
  const type = String.fromCharCode(tar[156] ?? 0);
  const size = Number.parseInt(tar.subarray(124, 136).toString("ascii").replace(/\0.*$/, ""), 8);
  if (type === "x" || type === "g" || type === "L")
    return firstOfTar(tar.subarray(512 + Math.ceil(size / 512) * 512));
  if (type !== "0" && type !== "\0") return Buffer.alloc(0);
  return tar.subarray(512, 512 + size);
}

type Owned = { id: string; run: string | null; data: string | null };

/** Containers and volumes that carry Trimo's label for this daemon's data folder. */
export async function ownedContainers(docker: Docker, label: string): Promise<Owned[]> {
  return await translated(async () => {
    const rows = await docker.listContainers({ all: true, filters: { label: [label] } });
    return rows.map((row) => ({
      id: row.Id,
      run: row.Labels["dev.trimo.run"] ?? null,
      data: row.Labels["dev.trimo.daemon"] ?? null,
    }));
  });
}

export async function ownedVolumes(
  docker: Docker,
  label: string,
): Promise<{ name: string; run: string | null }[]> {
  return await translated(async () => {
    // The callback's type hides the promise's.
    const answer = await (docker.listVolumes({ filters: { label: [label] } } as never) as unknown);
    const { Volumes } = answer as { Volumes: Dockerode.VolumeInspectInfo[] | null };
    return (Volumes ?? []).map((row) => ({
      name: row.Name,
      run: row.Labels?.["dev.trimo.run"] ?? null,
    }));
  });
}

/** Null when the engine does not have it. */
export async function inspectImage(
  docker: Docker,
  name: string,
): Promise<Dockerode.ImageInspectInfo | null> {
  try {
    return await docker.getImage(name).inspect();
  } catch (error) {
    if (statusOf(error) === 404) return null;
    throw translate(error);
  }
}

/** An image's labels; null when the engine does not have it. */
export async function imageLabels(
  docker: Docker,
  name: string,
): Promise<Record<string, string> | null> {
  const image = await inspectImage(docker, name);
  return image && (image.Config.Labels ?? {});
}

async function translated<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw translate(error);
  }
}

export function translate(error: unknown): DockerError {
  if (error instanceof DockerError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = (error as { code?: string }).code ?? "";
  if (["ECONNREFUSED", "ENOENT", "EACCES", "ECONNRESET", "EPIPE"].includes(code))
    return new DockerError("unavailable", `Docker does not answer: ${message}`);
  if (/no space left/i.test(message)) return new DockerError("disk_full", message);
  if (statusOf(error) === 404 && /no such image/i.test(message))
    return new DockerError("image_missing", message);
  if (statusOf(error) === 404) return new DockerError("gone", message);
  return new DockerError("other", message);
}

function statusOf(error: unknown): number {
  return (error as { statusCode?: number }).statusCode ?? 0;
}
