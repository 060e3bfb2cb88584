import { createHash } from "node:crypto";
import { join } from "node:path";
import type { Logger } from "pino";
import type { Clock } from "../../app/protocol/clock.ts";
import { matchesAny } from "../../app/protocol/pattern.ts";
import { RunningState } from "../../app/protocol/running-state.ts";
import { bytesOf, type Config } from "../config.ts";
import type { Disk } from "../disk.ts";
import { DockerError, type Engine } from "../docker/engine.ts";
import {
  baseImage,
  buildBase,
  contractLabel,
  contractVersion,
  imageSize,
  isBaseCurrent,
  proxyArgs,
} from "./base.ts";
import { BuildError, buildImage } from "./build.ts";
import { type Context, commitContext } from "./context.ts";
import { imagesOf } from "./dockerfile.ts";

// The images that repositories ask for with `build:`: made from the default branch's commit in the
// mirror, named by a hash of all that goes in, so that one build serves every run that waits for it
// and every run after. What no run has used for a while is removed.

/** A change of how images are made is a change of what goes in. */
const recipeVersion = "1";
/** `trimo-build/OWNER-NAME:KEY`. */
const prefix = "trimo-build";
const buildLabel = "dev.trimo.build";

/** Why this machine does not build it: a sentence. */
export class BuildRefused extends Error {}

export type Wanted = { repository: string; mirror: string; sha: string; dockerfile: string };
type Parts = {
  engine: Engine;
  disk: Disk;
  config: Config;
  identity: string;
  clock: Clock;
  log: Logger;
};
type UnderWay = {
  made: Promise<void>;
  stop: AbortController;
  waiting: Set<(line: string) => void>;
};

/**
 * The images that repositories have built here from their Dockerfiles: one build at a time, shared by all
 * who wait for it, swept when unused.
 */
export class Builds {
  #parts: Parts;
  #underWay = new Map<string, UnderWay>();
  /** When a run last wanted each image, in milliseconds since 1970; kept over restarts. */
  #used: Record<string, number>;
  #turn: Promise<unknown> = Promise.resolve();
  #basing: Promise<unknown> | null = null;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#used = readUsed(parts);
  }

  /** The image's name if it is there already; null: it must be built, or cannot be. */
  async known(wanted: Wanted): Promise<string | null> {
    const { engine, config } = this.#parts;
    if (config.builds === false || !(await isBaseCurrent(engine))) return null;
    const { tag } = await planned(this.#parts, wanted);
    return (await isThere(engine, tag)) ? tag : null;
  }

  /** The image's name, once it is there; `say` hears how far the build is. */
  async image(wanted: Wanted, say: (line: string) => void, signal: AbortSignal): Promise<string> {
    const { engine, config } = this.#parts;
    if (config.builds === false)
      throw new BuildRefused(
        "This machine builds no images: `builds: {}` in its daemon.yml lets it; images/README.md says what a build may reach.",
      );
    await this.#needBase(signal);
    const { tag, context } = await planned(this.#parts, wanted);
    this.#note(tag);
    if (await isThere(engine, tag)) return tag;
    const before = this.#underWay.get(tag);
    if (before) say("another run's build of the same image is under way");
    else if (this.#underWay.size > 0) say("waiting for the build of another image");
    const entry = before ?? this.#begin(tag, wanted, context);
    entry.waiting.add(say);
    try {
      await Promise.race([entry.made, aborted(signal)]);
      return tag;
    } finally {
      entry.waiting.delete(say);
      if (entry.waiting.size === 0) {
        // Whoever wants it from now on begins anew.
        this.#forget(tag, entry);
        entry.stop.abort(new Error("nobody waits for the build"));
      }
    }
  }

  /** The base, made once for all who need it. */
  async #needBase(signal: AbortSignal) {
    const { engine, log } = this.#parts;
    if (await isBaseCurrent(engine)) return;
    log.info("building the base image");
    this.#basing ??= buildBase(engine, () => {}).finally(() => {
      this.#basing = null;
    });
    await Promise.race([this.#basing, aborted(signal)]);
  }

  #begin(tag: string, wanted: Wanted, context: Context): UnderWay {
    const { config } = this.#parts;
    const entry: UnderWay = {
      made: Promise.resolve(),
      stop: new AbortController(),
      waiting: new Set(),
    };
    const limitMs = limitsOf(config).minutes * 60_000;
    // One at a time: each may take all that a build may.
    entry.made = this.#turn.then(async () => {
      const late = AbortSignal.timeout(limitMs);
      const room = watchRoom(this.#parts);
      const note = (image: string) => this.#note(image);
      try {
        const signal = AbortSignal.any([entry.stop.signal, late, room.signal]);
        await make(this.#parts, tag, wanted, context, teller(entry, this.#parts.log), note, signal);
        note(tag);
      } catch (error) {
        if (late.aborted) throw new BuildError(`the build took more than ${limitMs / 60_000} min`);
        throw error;
      } finally {
        room.close();
        this.#forget(tag, entry);
      }
    });
    // The next build begins however this one ends; who waits for it hears of it.
    this.#turn = entry.made.catch(() => {});
    this.#underWay.set(tag, entry);
    return entry;
  }

  #forget(tag: string, entry: UnderWay) {
    if (this.#underWay.get(tag) === entry) this.#underWay.delete(tag);
  }

  #note(image: string) {
    this.#used[image] = this.#parts.clock.now();
    this.#save();
  }

  #save() {
    const { disk, config } = this.#parts;
    disk.replace(usedPath(config), JSON.stringify(this.#used));
  }

  /** Removes what no run has used for `days`, and then the longest unused over the disk's share. */
  async sweep() {
    const { engine, config, clock, log, identity } = this.#parts;
    const { days, disk } = limitsOf(config);
    const base = (await imageSize(engine, baseImage)) ?? 0;
    for (const image of await builtImages(engine, identity)) this.#used[image] ??= clock.now();
    const newestFirst = Object.entries(this.#used).toSorted(([, a], [, b]) => b - a);
    let bytes = 0;
    for (const [image] of newestFirst) {
      if (this.#underWay.has(image)) continue;
      const size = await imageSize(engine, image);
      // A layer of a failed build may be, or have become, somebody's own image.
      const another = !image.startsWith(`${prefix}/`) && (await isTagged(engine, image));
      if (size === null || another) {
        delete this.#used[image];
        continue;
      }
      const own = Math.max(0, size - base);
      // As it is now: a run may have asked for it a moment ago.
      const old = clock.now() - (this.#used[image] ?? 0) > days * 86_400_000;
      bytes += own;
      if (!old && bytes <= bytesOf(disk)) continue;
      log.info({ image, bytes: own, old }, "removing an image that was built here");
      if (!(await removed(engine, image))) continue;
      delete this.#used[image];
      bytes -= own;
    }
    this.#save();
  }
}

/** Tells all who wait; one that cannot write it down must not end the build. */
function teller({ waiting }: UnderWay, log: Logger): (line: string) => void {
  return (line) => {
    for (const tell of waiting)
      try {
        tell(line);
      } catch (error) {
        log.warn({ err: error }, "a build's progress could not be told");
      }
  };
}

/** False for one that a container stands on: it goes at another turn. */
async function removed(engine: Engine, image: string): Promise<boolean> {
  return await engine.removeImage(image).then(
    () => true,
    () => false,
  );
}

/** Name and context; throws when the Dockerfile takes from an image that this machine may not start. */
async function planned({ config, engine }: Parts, wanted: Wanted) {
  const context = await commitContext(wanted.mirror, wanted.sha, wanted.dockerfile);
  const { images, unclear } = imagesOf(context.text);
  const [first] = unclear;
  if (first)
    throw new BuildRefused(
      `${wanted.dockerfile} line ${first.line} can be read in two ways, and which images it takes from must be plain: ${first.text.slice(0, 200)}`,
    );
  const foreign = images.filter((image) => !matchesAny(image, config.images));
  if (foreign.length > 0)
    throw new BuildRefused(
      `${wanted.dockerfile} takes from ${foreign.join(", ")}; this machine may start ${config.images.join(", ")}`,
    );
  const ids = await Promise.all(images.map(async (image) => [image, await idOf(engine, image)]));
  const missing = ids.filter(([, id]) => id === null).map(([image]) => image);
  // Pulled unasked, a name would be whoever's it is on a registry.
  if (missing.length > 0)
    throw new BuildRefused(
      `${wanted.dockerfile} takes from ${missing.join(", ")}, which this machine has not: pull or build it there first.`,
    );
  const key = createHash("sha256")
    .update([recipeVersion, context.hash, ...ids.flat()].join("\n"))
    .digest("hex")
    .slice(0, 20);
  const name = wanted.repository
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "");
  return { context, tag: `${prefix}/${name}:${key}` };
}

async function make(
  { engine, config, identity, clock, log }: Parts,
  tag: string,
  { repository, sha, dockerfile }: Wanted,
  context: Context,
  say: (line: string) => void,
  keep: (layer: string) => void,
  signal: AbortSignal,
) {
  if (signal.aborted) throw signal.reason;
  // Another's build of it may have ended while this one was looking for it.
  if (await isThere(engine, tag)) return;
  const { cpus, memory } = limitsOf(config);
  const startedAt = clock.now();
  say(`building the image of ${dockerfile}`);
  log.info({ repository, sha, tag }, "building an image");
  const recipe = {
    tag,
    dockerfile,
    text: context.text,
    labels: { [buildLabel]: identity, "dev.trimo.repository": repository },
    args: proxyArgs(),
    platform: null,
    fresh: false,
    limits: { cpus, memoryBytes: bytesOf(memory) },
  };
  const tell = ({ step, steps, text }: { step: number; steps: number; text: string }) =>
    say(`image step ${step} of ${steps}: ${text.slice(0, 200)}`);
  const { cached, steps } = await buildImage(engine, context.tar(), recipe, tell, signal, keep);
  const seconds = ((clock.now() - startedAt) / 1000).toFixed(1);
  say(`image built in ${seconds} s, ${cached} of ${steps} steps from the cache`);
}

/** How often the engine's disk is looked at while an image is built, and what must stay free. */
const roomEveryMs = 1_000;
const roomBytesMin = 2 ** 30;

/** Aborts when the engine's disk is nearly full: a step may write what it likes. */
function watchRoom({ engine, disk, clock }: Parts) {
  const full = new AbortController();
  const state = new RunningState(clock);
  const look = async () => {
    const folder = await engine.folder();
    while (state.running) {
      const free = await disk.free(folder);
      if (free === null) return;
      if (free < roomBytesMin)
        full.abort(new DockerError("disk_full", "the engine's disk is nearly full: no space left"));
      await state.sleep(roomEveryMs);
    }
  };
  // What cannot be looked at ends no build; the step that fills the disk fails by itself.
  look().catch(() => {});
  return { signal: full.signal, close: () => state.stop() };
}

/** What a build may take where daemon.yml does not say. */
const defaults = { cpus: 2, memory: "4g", minutes: 20, disk: "20g", days: 14 };
function limitsOf({ builds }: Config) {
  return { ...defaults, ...(builds === false ? {} : builds) };
}

/** The tags that this daemon has made, also when its list of them was lost. */
async function builtImages(engine: Engine, identity: string): Promise<string[]> {
  const tags = await engine.taggedImages(`${buildLabel}=${identity}`);
  return tags.filter((tag) => tag.startsWith(`${prefix}/`));
}

async function isTagged(engine: Engine, image: string): Promise<boolean> {
  return ((await engine.image(image))?.tags.length ?? 0) > 0;
}

async function isThere(engine: Engine, tag: string): Promise<boolean> {
  return (await idOf(engine, tag)) !== null;
}

async function idOf(engine: Engine, image: string): Promise<string | null> {
  const found = await engine.image(image);
  if (!found) return null;
  const follows = found.labels[contractLabel] === contractVersion;
  return image.startsWith(`${prefix}/`) && !follows ? null : found.id;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const stop = () => reject(signal.reason ?? new Error("aborted"));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
  });
}

/** When a run last used each image that was built here; kept over restarts. */
function readUsed({ disk, config }: Parts): Record<string, number> {
  try {
    return JSON.parse(disk.read(usedPath(config)) ?? "{}");
  } catch {
    // Cut short: then they begin to age now.
    return {};
  }
}

const usedPath = ({ data }: Config): string => join(data, "images.json");
