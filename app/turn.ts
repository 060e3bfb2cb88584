import type { Logger } from "pino";
import type { Links } from "./comment.ts";
import type { Database } from "./database.ts";
import type { GitHub, Workspace } from "./github.ts";
import type { Report } from "./outbox.ts";
import type { Permissions } from "./permission.ts";
import type { Clock } from "./protocol/pace.ts";
import type { Wake } from "./wake.ts";

export type Parts = {
  db: Database;
  github: GitHub;
  permissions: Permissions;
  clock: Clock;
  wake: Wake;
  log: Logger;
  links: Links;
};

/** One report's turn to be made true. */
export type Turn = Parts & { workspace: Workspace; report: Report; now: number };

/** Nothing is wrong; it is looked at again at `dueAt`. */
export class NotYet extends Error {
  readonly dueAt: number;
  constructor(dueAt: number) {
    super("not yet");
    this.dueAt = dueAt;
  }
}
