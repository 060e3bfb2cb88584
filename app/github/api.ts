import type { ProbotOctokit } from "probot";
import type { Clock } from "../protocol/clock.ts";
import { GitHubError, translate } from "./error.ts";

export type Octokit = InstanceType<typeof ProbotOctokit>;
/** An Octokit of one installation; of the App itself without an id. */
export type Connect = (installation?: number) => Promise<Octokit>;

/**
 * Runs requests with an Octokit; what Octokit throws leaves as a GitHubError.
 *
 * @throws GitHubError for every refusal and for no answer at all.
 */
export type Api = <T>(work: (octokit: Octokit) => Promise<T>) => Promise<T>;

/** The Api of one installation, or, with null, of the App itself. */
export function createApi(connect: Connect, clock: Clock, installation: number | null): Api {
  return async (work) => {
    try {
      return await work(await connect(installation ?? undefined));
    } catch (error) {
      if (error instanceof GitHubError) throw error;
      throw translate(error, clock.now());
    }
  };
}

/** `owner/name` in two. */
export function split(repository: string): { owner: string; repo: string } {
  const [owner = "", repo = ""] = repository.split("/");
  return { owner, repo };
}

/** So many times more is read than kept, for the sake of the newest. */
const pagesFactor = 4;

/** The last rows of a paginated answer, at most `most`: GitHub gives the oldest first. */
export async function newestRows<T>(
  pages: AsyncIterable<{ data: T[] }>,
  most: number,
): Promise<T[]> {
  const rows: T[] = [];
  for await (const page of pages) {
    rows.push(...page.data);
    if (rows.length >= most * pagesFactor) break;
  }
  return rows.slice(-most);
}

/** A request's `since`, for a time in milliseconds since 1970; nothing for 0. */
export const sinceOf = (at: number) => (at > 0 ? { since: new Date(at).toISOString() } : {});
