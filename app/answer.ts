import { eq } from "drizzle-orm";
import type { Database, Tx } from "./database.ts";
import type { GitHub, Permission } from "./github.ts";
import { want, wantOnce } from "./outbox.ts";
import type { Repository } from "./payload.ts";
import type { Permissions } from "./permission.ts";
import type { Clock } from "./protocol/pace.ts";
import type { Run } from "./run.ts";
import { intents } from "./schema.ts";
import type { Wake } from "./wake.ts";
import { plain } from "./wording.ts";

export type Parts = {
  db: Database;
  github: GitHub;
  permissions: Permissions;
  clock: Clock;
  wake: Wake;
};
type Intent = typeof intents.$inferSelect;

/** Where somebody wants something: the answer goes there. `key` makes its effect happen once. */
export type Place = {
  kind: Intent["kind"];
  key: string;
  workspace: number;
  repository: Repository;
  /** The issue or pull request. */
  thread: number;
  sender: string;
};

/** What came of it; `say` is answered, at most once under `once` where that is given. */
export type Effect = {
  outcome: Intent["outcome"];
  reason: string;
  run: Run | null;
  say: string | null;
  once?: string;
};

/** Stores the intent and its effect together; a second handling of the delivery does nothing. */
export async function inOneStep(
  parts: Parts,
  place: Place,
  work: (tx: Tx, at: number) => Promise<Effect>,
): Promise<void> {
  const at = parts.clock.now();
  await parts.db.write(async (tx) => {
    const known = await tx
      .select({ key: intents.key })
      .from(intents)
      .where(eq(intents.key, place.key));
    if (known.length > 0) return;
    const { outcome, reason, run, say, once } = await work(tx, at);
    const { workspace, repository, thread, key, kind, sender } = place;
    if (say !== null) {
      const data = { repository: repository.fullName, issue: thread, body: say };
      await wantOnce(tx, at, workspace, "reply", once ?? `answer:${key}`, data);
    }
    await tx.insert(intents).values({
      key,
      kind,
      repository: repository.fullName,
      issue: thread,
      sender,
      outcome,
      reason,
      runId: run?.id ?? null,
      at,
    });
  });
  parts.wake.emit("reports", place.workspace);
}

/** An answer in words, and nothing else. */
export async function answer(parts: Parts, place: Place, reason: string, say: string) {
  const effect = { outcome: "answered" as const, reason, run: null, say };
  await inOneStep(parts, place, async () => effect);
}

/** One polite sentence, at most once a person, issue and hour. */
export async function refuse(
  parts: Parts,
  place: Place,
  what: string,
  need: Permission,
  has: Permission,
) {
  const hour = Math.floor(parts.clock.now() / 3_600_000);
  const once = `refused:${place.repository.id}:${place.thread}:${place.sender}:${hour}`;
  const own = has === "none" ? "no permission here" : `${has} permission`;
  const say = `⛔ @${plain(place.sender, 60)}, ${what} here needs ${need} permission, and you have ${own}. Someone who has it can do it in your place.`;
  const effect = { outcome: "refused" as const, reason: `${what}: has ${has}`, run: null, say };
  await inOneStep(parts, place, async () => ({ ...effect, once }));
}

/** 👀 at once, so that the person knows they were heard. GitHub has none for a review as a whole. */
export async function acknowledge(
  tx: Tx,
  at: number,
  place: Place,
  where: "comment" | "line" | "review",
  id: number,
) {
  if (where === "review") return;
  const data = { repository: place.repository.fullName, comment: id, where };
  await want(tx, at, place.workspace, "reaction", `eyes:${where}:${id}`, true, data);
}
