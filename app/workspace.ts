import type { Tx } from "./database.ts";
import { workspaces } from "./schema.ts";

export type Workspace = typeof workspaces.$inferSelect;

/** What GitHub said of an installation of the App. */
export async function recordWorkspace(tx: Tx, workspace: Workspace) {
  await tx
    .insert(workspaces)
    .values(workspace)
    .onConflictDoUpdate({ target: workspaces.id, set: workspace });
}
