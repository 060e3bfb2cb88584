import type { GitHub } from "../github/app.ts";
import type { Repository } from "../github/objects.ts";
import type { Permissions } from "../github/permission.ts";
import type { Clock } from "../protocol/clock.ts";
import type { Database, Tx } from "../state/database.ts";
import { addIntent, type Intent, intentsSince, isKnownIntent } from "../state/intent.ts";
import type { IntentRequest } from "../state/intent-request.ts";
import type { Reply } from "../state/reply.ts";
import { request, requestOnce } from "../state/report.ts";
import type { Run } from "../state/run.ts";

/** What every handler of an event needs. */
export type Parts = {
  db: Database;
  github: GitHub;
  permissions: Permissions;
  clock: Clock;
};

/** Where somebody asked for something: the answer goes there. */
export type Source = {
  kind: Intent["kind"];
  /** Makes the effect happen once: a delivery's GUID, or a schedule's firing. */
  key: string;
  workspace: number;
  repository: Repository;
  /** The issue or pull request; null: the repository as a whole. */
  thread: number | null;
  /** A login, or the name of what acted in its place. */
  sender: string;
  request: IntentRequest;
  /** When it was said; undefined: GitHub does not say. */
  said?: Said;
  /** Without write permission: each kind of answer is given at most once an hour. */
  isOutsider?: boolean;
};

/** The source of an event. */
export function sourceOf(
  kind: Source["kind"],
  key: string,
  event: { workspace: number; repository: Repository; sender: { login: string } },
  about: Pick<Source, "thread" | "request">,
): Source {
  const { workspace, repository, sender } = event;
  return { kind, key, workspace, repository, sender: sender.login, ...about };
}

/**
 * When something was said, in milliseconds since 1970, as GitHub says it in whole seconds; and in which
 * comment, by which those of one second are told apart (null: in none, or in one of a review).
 */
type Said = { at: number; commentId: number | null };

/** What came of an intent. */
export type Effect = {
  outcome: Intent["outcome"];
  run: Run | null;
  /** What is answered; null: nothing. */
  reply: Reply | null;
  /** Under this name it is answered once only, whoever asks. */
  once?: string;
};

/** An intent whose only effect is an answer, or that nothing is done. */
export const answered = (reply: Reply | null, run: Run | null = null): Effect => ({
  outcome: "answered",
  run,
  reply,
});

/** Stores the intent and its effect in one transaction; a second handling of the delivery does nothing. */
export async function recordIntent(
  { db }: Pick<Parts, "db">,
  source: Source,
  work: (tx: Tx) => Promise<Effect>,
) {
  await db.write(async (tx) => {
    if (await isKnownIntent(tx, source.key)) return;
    const effect = await work(tx);
    await sendReply(tx, source, effect);
    await freeLabel(tx, source, effect);
    const { key, kind, repository, thread, sender, said } = source;
    await addIntent(tx, {
      key,
      kind,
      repository: repository.fullName,
      issue: thread,
      sender,
      request: source.request,
      outcome: effect.outcome,
      reply: effect.reply,
      runId: effect.run?.id ?? null,
      saidAt: said?.at ?? null,
      commentId: said?.commentId ?? null,
    });
  });
}

/** An answer in words, and nothing else. */
export async function answer(parts: Pick<Parts, "db">, source: Source, reply: Reply) {
  await recordIntent(parts, source, async () => answered(reply));
}

async function sendReply(tx: Tx, source: Source, { outcome, reply, once }: Effect) {
  const { workspace, repository, thread, key } = source;
  if (reply === null || thread === null) return;
  if (await repliedLately(tx, source, { outcome, reply })) return;
  const wanted = { kind: "reply" as const, repository: repository.fullName, issue: thread, reply };
  await requestOnce(tx, { workspace, subject: once ?? `answer:${key}`, wanted });
}

/** A label that started nothing is removed at once, so that it can be added again. */
async function freeLabel(tx: Tx, source: Source, { run }: Effect) {
  const { workspace, repository, thread, key, request: asked } = source;
  if (asked.type !== "label" || run !== null || thread === null) return;
  const wanted = {
    kind: "label" as const,
    repository: repository.fullName,
    issue: thread,
    label: asked.label,
  };
  await request(tx, { workspace, subject: key, wanted }, { urgent: false });
}

const hourMs = 3_600_000;

/** A refusal, and any answer to somebody without write permission, is given once an hour. */
async function repliedLately(
  tx: Tx,
  { repository, thread, sender, isOutsider }: Source,
  { outcome, reply }: { outcome: Effect["outcome"]; reply: Reply },
): Promise<boolean> {
  if (outcome !== "refused" && !(isOutsider && outcome === "answered")) return false;
  const who = { repository: repository.fullName, issue: thread ?? 0, sender, outcome };
  const lately = await intentsSince(tx, who, tx.now - hourMs);
  if (outcome === "refused") return lately.length > 0;
  return lately.some((intent) => intent.reply?.kind === reply.kind);
}

/** Where a comment is that is acknowledged. */
export type Heard = { where: "comment" | "line" | "review"; id: number };

/** Puts 👀 on a comment, so that its author knows it was heard. GitHub has none for a review as a whole. */
export async function acknowledge(tx: Tx, { workspace, repository }: Source, { where, id }: Heard) {
  if (where === "review") return;
  const wanted = {
    kind: "reaction" as const,
    repository: repository.fullName,
    comment: id,
    where,
  };
  await request(tx, { workspace, subject: `eyes:${where}:${id}`, wanted }, { urgent: true });
}
