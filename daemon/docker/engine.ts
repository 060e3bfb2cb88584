import type { Duplex, Readable } from "node:stream";
import type { ContainerRequest } from "./container-spec.ts";

// The seam in front of the container engine. Containers, volumes and images are named by strings, so
// that nothing of an engine's own objects travels, and a simulation can stand here.

/** Why the engine did not do it, translated once. */
export class DockerError extends Error {
  readonly kind: "unavailable" | "image_missing" | "disk_full" | "gone" | "other";
  constructor(kind: DockerError["kind"], message: string) {
    super(message);
    this.kind = kind;
  }
}

/** The problem that a message of the engine's speaks of. */
export function problemOf(message: string): DockerError {
  return new DockerError(/no space left/i.test(message) ? "disk_full" : "other", message);
}

/** A container that runs and waits for its task on stdin. */
export type Started = {
  container: string;
  /** Hands the whole task over, once; from here on the container works. */
  hand(task: string): void;
  /** Gives it no task; the container ends by itself. */
  abandon(): void;
};

/** The stdio of a process in a container, as a pair of streams. */
export type Carrier = { input: Duplex; output: Readable };

export type ContainerState = {
  running: boolean;
  /** False while it was only created. */
  started: boolean;
  exitCode: number;
  outOfMemory: boolean;
};

/** What carries a label of Trimo's; `run` is null when it names none. */
type OwnedContainer = { id: string; run: string | null };
type OwnedVolume = { name: string; run: string | null };

/** `os` and `cpu` as Docker names them, such as `linux` and `amd64`. */
export type EngineVersion = { version: string; os: string; cpu: string };

export type Image = {
  id: string;
  tags: string[];
  labels: Record<string, string>;
  /** With all its layers. */
  sizeBytes: number;
  os: string;
  cpu: string;
  /** `NAME=value` rows. */
  env: string[];
  /** Such as `5432/tcp`. */
  exposed: string[];
};

/** One step of an image's making. */
type Layer = { sizeBytes: number; createdBy: string };

export type BuildRequest = {
  tag: string;
  /** The Dockerfile's path in the context. */
  dockerfile: string;
  labels: Record<string, string>;
  args: Record<string, string>;
  /** Such as `linux/arm64`; null: the engine's own. */
  platform: string | null;
  /** True: nothing from the cache. */
  fresh: boolean;
  limits: { cpus: number; memoryBytes: number } | null;
};

/** What the engine says while it builds. */
export type BuildMessage = { stream?: string; error?: string; aux?: { ID?: string } };

/**
 * A container engine. Every method throws a DockerError and nothing else; `unavailable` means that
 * nothing is known about what was asked.
 */
export interface Engine {
  /** Resolves when the engine answers. */
  ping(): Promise<void>;
  version(): Promise<EngineVersion>;
  /** Gives the folder with its images, containers and volumes, on the engine's machine; asked once. */
  folder(): Promise<string>;

  /** Creates a container with its volume and starts it; it does nothing before its task comes. */
  startContainer(request: ContainerRequest): Promise<Started>;
  /** Runs `command` in a container as a user without any right. */
  exec(container: string, command: string[]): Promise<Carrier>;
  /** Gives null when the container is gone. */
  stateOf(container: string): Promise<ContainerState | null>;
  /** Gives the end of what its first process printed; empty when it is gone. */
  logsOf(container: string): Promise<string>;
  /** Gives a file of a container that may have stopped; empty when it is not there. */
  readFile(container: string, path: string): Promise<Buffer>;
  /** Resolves when the container no longer runs, however it ended. */
  waitForEnd(container: string): Promise<void>;
  /** Asks its first process to stop; it commits before it ends. */
  askToStop(container: string): Promise<void>;
  /** Ends all its processes at once; it stays, to be read. */
  kill(container: string): Promise<void>;
  /** Ends all its processes at once and removes it; nothing to do when it is gone. */
  removeContainer(container: string): Promise<void>;
  removeVolume(name: string): Promise<void>;
  /** Lists the containers that carry `label` (`name=value`), also stopped ones. */
  ownedContainers(label: string): Promise<OwnedContainer[]>;
  ownedVolumes(label: string): Promise<OwnedVolume[]>;

  /** Gives null when the engine does not have the image. */
  image(name: string): Promise<Image | null>;
  /** Lists the tags of the images that carry `label` (`name=value`). */
  taggedImages(label: string): Promise<string[]>;
  /** Gives an image's layers, the newest first. */
  layersOf(image: string): Promise<Layer[]>;
  /** Removes a tag, or an image by its id; refused while a container stands on it. */
  removeImage(image: string): Promise<void>;
  pullImage(name: string): Promise<void>;
  /** Makes an image of one layer out of a tar archive. */
  importImage(tar: Readable, tag: string): Promise<void>;
  /** Builds an image from a tar archive; resolves when the engine has nothing more to say. */
  buildImage(
    context: Readable,
    request: BuildRequest,
    hear: (message: BuildMessage) => void,
    signal: AbortSignal,
  ): Promise<void>;
}

/** An image's labels; null when the engine does not have it. */
export async function imageLabels(
  engine: Engine,
  name: string,
): Promise<Record<string, string> | null> {
  return (await engine.image(name))?.labels ?? null;
}
