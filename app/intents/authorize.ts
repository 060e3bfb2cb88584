import { allows, type CommandName, type Permission } from "../protocol/permission.ts";
import type { TrimoYml } from "../protocol/trimo-yml.ts";
import { needOf } from "../view/help.ts";
import { type Parts, recordIntent, type Source } from "./intent.ts";

/** Whether somebody may use a command, as GitHub says it of them. */
type Rights = {
  allowed: boolean;
  /** Without write permission, whatever the command needs here. */
  isOutsider: boolean;
  has: Permission;
  need: Permission;
};

/** Asks GitHub whether the sender may use a command in this repository; only answers. */
export async function authorize(
  { permissions }: Pick<Parts, "permissions">,
  { workspace, repository, sender }: Pick<Source, "workspace" | "repository" | "sender">,
  command: CommandName,
  config: TrimoYml,
): Promise<Rights> {
  const has = await permissions.of(workspace, repository.fullName, sender);
  const need = needOf(command, config.commands);
  return { allowed: allows(has, need), isOutsider: !allows(has, "write"), has, need };
}

/** Tells the sender what is missing: one sentence, at most once a person, issue and hour. */
export async function refuse(
  parts: Parts,
  source: Source,
  command: CommandName,
  { need, has }: Rights,
) {
  const what = source.request.type === "label" ? { label: source.request.label } : { command };
  const reply = { kind: "refused" as const, to: source.sender, what, need, has };
  await recordIntent(parts, source, async () => ({ outcome: "refused", run: null, reply }));
}
