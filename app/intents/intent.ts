import { and, eq, gt } from "drizzle-orm";
import type { GitHub, Permission } from "../github/app.ts";
import type { Permissions } from "../github/permission.ts";
import type { Repository } from "../inbound/payload.ts";
import type { Clock } from "../protocol/clock.ts";
import type { Database, Tx } from "../state/database.ts";
import { want, wantOnce } from "../state/report.ts";
import type { Run } from "../state/run.ts";
import { intents } from "../state/schema.ts";
import type { Wake } from "../state/wake.ts";
import { plain } from "../view/wording.ts";

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
  /** The label that was put on; it comes off when nothing was started, so that it can be put on again. */
  label?: string;
  /** Without write permission: answered at most once an hour for each kind of answer. */
  outsider?: boolean;
};

/** The place of something that happened. */
export function placeOf(
  kind: Place["kind"],
  key: string,
  event: { workspace: number; repository: Repository; sender: { login: string } },
  thread: number,
): Place {
  const { workspace, repository, sender } = event;
  return { kind, key, workspace, repository, thread, sender: sender.login };
}

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
    const { workspace, repository, thread, key, kind, sender, label } = place;
    if (say !== null && !(await saidLately(tx, at, place, outcome, reason))) {
      const data = { repository: repository.fullName, issue: thread, body: say };
      await wantOnce(tx, at, workspace, "reply", once ?? `answer:${key}`, data);
    }
    if (label && run === null) {
      const data = { repository: repository.fullName, issue: thread, label };
      await want(tx, at, workspace, "label", key, false, data);
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

const hourMs = 3_600_000;

/** A refusal, or any answer to somebody without write permission, is said once an hour. */
async function saidLately(
  tx: Tx,
  at: number,
  place: Place,
  outcome: Effect["outcome"],
  reason: string,
): Promise<boolean> {
  if (outcome !== "refused" && !(place.outsider && outcome === "answered")) return false;
  const rows = await tx
    .select({ reason: intents.reason })
    .from(intents)
    .where(
      and(
        eq(intents.repository, place.repository.fullName),
        eq(intents.issue, place.thread),
        eq(intents.sender, place.sender),
        eq(intents.outcome, outcome),
        gt(intents.at, at - hourMs),
      ),
    );
  return outcome === "refused" ? rows.length > 0 : rows.some((row) => row.reason === reason);
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
  const own = has === "none" ? "no permission here" : `${has} permission`;
  const say = `⛔ @${plain(place.sender, 60)}, ${what} here needs ${need} permission, and you have ${own}. Someone who has it can do it in your place.`;
  const effect = { outcome: "refused" as const, reason: `${what}: has ${has}`, run: null, say };
  await inOneStep(parts, place, async () => effect);
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
