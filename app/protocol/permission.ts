import { z } from "zod";

/** What GitHub lets a person do in a repository, the least first (REST docs, "Repository roles"). */
export const permissions = ["none", "read", "triage", "write", "maintain", "admin"] as const;
export type Permission = (typeof permissions)[number];

/** A permission that a command can be made to need: all but none. */
export const NeededPermission = z.enum(permissions).exclude(["none"]);

/** Whether `have` is at least `need`. */
export function allows(have: Permission, need: Permission): boolean {
  return permissions.indexOf(have) >= permissions.indexOf(need);
}

/** The commands people may write behind `/trimo`. */
export const commandNames = [
  "run",
  "fix",
  "continue",
  "tell",
  "retry",
  "cancel",
  "status",
  "done",
  "help",
] as const;
export type CommandName = (typeof commandNames)[number];
