import { type Permission, permissions } from "../protocol/permission.ts";
import type { TokenPurpose } from "../protocol/token.ts";
import { type Api, newestRows, split } from "./api.ts";
import { type Checks, createChecks } from "./checks.ts";
import { type Contents, createContents } from "./contents.ts";
import { createIssues, type Issues } from "./issues.ts";
import type { Author, FoundRepository } from "./objects.ts";
import { createPulls, type Pulls } from "./pulls.ts";

/** The most repositories of one installation that are read. */
const repositoriesMax = 1_000;

/** All of GitHub that Trimo uses in one installation of the App. Every method rejects with GitHubError. */
export type Installation = Issues &
  Pulls &
  Checks &
  Contents & {
    /** What a user may do in a repository, as GitHub says it. */
    permission(repository: string, user: string): Promise<Permission>;
    repositories(): Promise<FoundRepository[]>;
    /** A token for one repository, an hour long; `expiresAt` in milliseconds since 1970. */
    token(
      repositoryId: number,
      purpose: TokenPurpose,
    ): Promise<{ token: string; expiresAt: number }>;
  };

/** What one installation is made of. `app`: the Api of the App itself, which mints tokens. */
type InstallationParts = {
  id: number;
  appId: number;
  api: Api;
  app: Api;
  author: () => Promise<Author>;
};

/** One installation of the App. */
export function createInstallation({
  id,
  appId,
  api,
  app,
  author,
}: InstallationParts): Installation {
  return {
    ...createIssues(api, appId, author),
    ...createPulls(api),
    ...createChecks(api, appId),
    ...createContents(api),
    permission: (repository, username) =>
      api(async (o) => {
        const where = { ...split(repository), username };
        const { data } = await o.rest.repos.getCollaboratorPermissionLevel(where);
        const role = data.role_name ?? data.permission;
        // A custom role has a name of its own; `permission` then says what it amounts to.
        const known = permissions.find((one) => one === role);
        return known ?? (data.permission as Permission);
      }),
    repositories: () =>
      api(async (o) => {
        const pages = o.paginate.iterator(o.rest.apps.listReposAccessibleToInstallation, {
          per_page: 100,
        });
        return (await newestRows(pages, repositoriesMax)).map((row) => ({
          id: row.id,
          fullName: row.full_name,
          defaultBranch: row.default_branch,
          archived: row.archived,
        }));
      }),
    token: (repositoryId, purpose) =>
      app(async (o) => {
        // Not octokit.auth(): it ignores the base URL of a GitHub Enterprise Server.
        const { data } = await o.rest.apps.createInstallationAccessToken({
          installation_id: id,
          repository_ids: [repositoryId],
          permissions: tokenPermissions[purpose],
        });
        return { token: data.token, expiresAt: Date.parse(data.expires_at) };
      }),
  };
}

/** The least for each purpose; what the App itself was not given cannot be asked for. */
const tokenPermissions = {
  push: { contents: "write" },
  kept: { contents: "write" },
  read: { issues: "read", pull_requests: "read", checks: "read" },
} as const satisfies Record<TokenPurpose, object>;
