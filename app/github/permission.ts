import type { Clock } from "../protocol/clock.ts";
import type { GitHub, Permission } from "./app.ts";

/** How long an answer of GitHub's is believed. */
const believedMs = 30_000;
const rememberedMax = 10_000;

export type Permissions = {
  /** What `user` may do in `repository`, as GitHub says it; never `author_association`. */
  of(workspace: number, repository: string, user: string): Promise<Permission>;
};

export function createPermissions(github: GitHub, clock: Clock): Permissions {
  const known = new Map<string, { permission: Permission; until: number }>();
  return {
    async of(workspace, repository, user) {
      const key = `${repository} ${user}`;
      const hit = known.get(key);
      if (hit && hit.until > clock.now()) return hit.permission;
      const permission = await github.workspace(workspace).permission(repository, user);
      if (known.size >= rememberedMax) known.clear();
      known.set(key, { permission, until: clock.now() + believedMs });
      return permission;
    },
  };
}

const ranks: Permission[] = ["none", "read", "triage", "write", "maintain", "admin"];

/** Whether `have` is at least `need`. */
export function allows(have: Permission, need: Permission): boolean {
  return ranks.indexOf(have) >= ranks.indexOf(need);
}
