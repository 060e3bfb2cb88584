import type { GitHubState } from "../github-state.ts";
import type { World } from "../world.ts";

/** All that agents have ever made, and the commits that have it. */
export class Work {
  /** By edit: the run that made it. */
  readonly edits = new Map<string, string>();
  readonly #world: World;
  readonly #github: GitHubState;
  /** A commit's parent, and its edits. */
  readonly #commits = new Map<string, { parent: string; edits: string[] }>();

  constructor(world: World, github: GitHubState) {
    this.#world = world;
    this.#github = github;
  }

  edit(run: string): string {
    const edit = `edit-${this.edits.size + 1}`;
    this.edits.set(edit, run);
    return edit;
  }

  commit(parent: string, edits: string[]): string {
    const sha = this.#github.nextSha();
    this.#commits.set(sha, { parent, edits: [...edits] });
    this.#world.say("a container commits", sha.slice(-3), edits.join(" "));
    return sha;
  }

  /** A commit and all before it that containers have made, the newest first. */
  *history(sha: string | undefined): Generator<string> {
    for (let at = sha; at !== undefined; at = this.#commits.get(at)?.parent) yield at;
  }

  contains(sha: string | undefined, ancestor: string): boolean {
    return [...this.history(sha)].includes(ancestor);
  }

  /** The edits of a commit and of all before it. */
  editsOf(sha: string | undefined): string[] {
    return [...this.history(sha)].flatMap((one) => this.#commits.get(one)?.edits ?? []);
  }
}
