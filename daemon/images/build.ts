import type { Readable } from "node:stream";
import { stripVTControlCharacters } from "node:util";
import {
  type BuildMessage,
  type BuildRequest,
  DockerError,
  type Engine,
  problemOf,
} from "../docker/engine.ts";
import { type Instruction, instructionsOf } from "./dockerfile.ts";

/** What the engine is to make of a context; `text` is the Dockerfile's, to say which line a step is on. */
type Recipe = BuildRequest & { text: string };

/** The Dockerfile is at fault; the message has step, line, output and the engine's own words. */
export class BuildError extends Error {}

type Step = { step: number; steps: number; text: string };
type Built = { id: string; steps: number; cached: number };

/** Of a failing step's output, what goes into its message. */
const outputLinesMax = 40;
const outputCharactersMax = 2_400;
const messageCharactersMax = 600;

/**
 * Builds an image; `tell` hears each step. Aborting ends the build; its layers stay as the cache.
 *
 * @throws BuildError when the Dockerfile is at fault; DockerError.
 */
export async function buildImage(
  engine: Engine,
  context: Readable,
  recipe: Recipe,
  tell: (step: Step) => void,
  signal: AbortSignal,
  /** Hears the last layer of a build that did not come to its end: the cache of the next try. */
  keep: (layer: string) => void = () => {},
): Promise<Built> {
  const before = (await engine.image(recipe.tag).catch(() => null))?.id;
  const story = new Story(recipe, tell);
  try {
    await engine.buildImage(context, recipe, (message) => story.hear(message), signal);
  } catch (error) {
    // What is not read any more must not be made any more.
    context.destroy();
    if (story.layer) keep(story.layer);
    if (signal.aborted) throw signal.reason;
    story.failed(error);
  }
  if (signal.aborted) throw signal.reason;
  const built = story.end(keep);
  if (before && before !== built.id) await forgetOld(engine, before);
  return built;
}

/** What the engine says while it builds, as steps, output and an end. */
class Story {
  #recipe: Recipe;
  #instructions: Instruction[];
  #tell: (step: Step) => void;
  #at: Step | null = null;
  #lines: string[] = [];
  #cached = 0;
  #id = "";
  #problem: string | null = null;
  /** The last that a step of the Dockerfile has made, beyond what it stands on. */
  layer: string | null = null;

  constructor(recipe: Recipe, tell: (step: Step) => void) {
    this.#recipe = recipe;
    this.#instructions = instructionsOf(recipe.text);
    this.#tell = tell;
  }

  hear({ stream, error, aux }: BuildMessage) {
    if (error) this.#problem ??= error;
    if (aux?.ID) this.#id = aux.ID;
    for (const line of (stream ?? "").split("\n"))
      this.#line(stripVTControlCharacters(line).trimEnd());
  }

  #line(line: string) {
    const step = /^Step (\d+)\/(\d+) : (.*)$/.exec(line);
    if (step) {
      const [, number, , text = ""] = step;
      // The engine counts the labels that it was given as steps of its own.
      if (Number(number) > this.#instructions.length) return;
      this.#at = { step: Number(number), steps: this.#instructions.length, text };
      this.#lines = [];
      return this.#tell(this.#at);
    }
    if (line === " ---> Using cache") this.#cached += 1;
    const layer = /^ ---> ([0-9a-f]{12})$/.exec(line)?.[1];
    if (layer && !/^(from|arg) /i.test(this.#at?.text ?? "")) this.layer = layer;
    if (line && !/^ ---> |^Removing intermediate|^ *--->/.test(line))
      this.#lines = [...this.#lines, line].slice(-outputLinesMax);
  }

  failed(error: unknown): never {
    // Every error of the engine's is one; any other is Trimo's own.
    if (!(error instanceof DockerError)) throw error;
    if (error.kind === "disk_full" || error.kind === "unavailable") throw error;
    const at = this.#at;
    const line = at && this.#instructions[at.step - 1]?.line;
    const where = at
      ? `${this.#recipe.dockerfile}${line ? ` line ${line}` : ""}, step ${at.step} of ${at.steps}: ${at.text.slice(0, messageCharactersMax)}`
      : this.#recipe.dockerfile;
    // What failed, and where, goes first and must not be cut off by what it printed.
    const said = this.#lines.join("\n").slice(-outputCharactersMax);
    throw new BuildError(`${where}\n${said}\n${error.message.slice(0, messageCharactersMax)}`);
  }

  end(keep: (layer: string) => void): Built {
    if (this.#problem !== null && this.layer) keep(this.layer);
    if (this.#problem !== null) this.failed(problemOf(this.#problem));
    // An engine that is stopped in the middle just ends the answer.
    if (!this.#id) throw new DockerError("unavailable", "Docker ended before the image was built");
    return {
      id: this.#id,
      steps: this.#at?.steps ?? 0,
      cached: Math.min(this.#cached, this.#instructions.length),
    };
  }
}

/** The image that had the tag before, unless something still uses it. */
async function forgetOld(engine: Engine, id: string) {
  try {
    const found = await engine.image(id);
    if (found?.tags.length === 0) await engine.removeImage(id);
  } catch {
    // A container or another image stands on it; it goes with that.
  }
}
