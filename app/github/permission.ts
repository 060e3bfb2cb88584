import type { Clock } from "../protocol/clock.ts";
import type { Permission } from "../protocol/permission.ts";
import type { GitHub } from "./app.ts";

/** How long an answer of GitHub's is believed, in milliseconds. */
const believedMs = 30_000;
/** The most answers that are remembered. */
const rememberedMax = 10_000;

export type Permissions = {
  /** What `user` may do in `repository`, as GitHub says it; never `author_association`. */
  of(workspace: number, repository: string, user: string): Promise<Permission>;
};

/** Asks GitHub what people may do, and remembers each answer for half a minute. */
export function createPermissions(github: GitHub, clock: Clock): Permissions {
  const known = new Map<string, { permission: Permission; until: number }>();
  return {
    async of(workspace, repository, user) {
      const key = `${repository} ${user}`;
      const hit = known.get(key);
      if (hit && hit.until > clock.now()) return hit.permission;
      const permission = await github.installation(workspace).permission(repository, user);
      if (known.size >= rememberedMax) known.clear();
      known.set(key, { permission, until: clock.now() + believedMs });
      return permission;
    },
  };
}
