/** CI that failed on a commit; `defaultBranch`: the repository's. */
export type FailedCi = { app: string; sha: string; defaultBranch: string };
