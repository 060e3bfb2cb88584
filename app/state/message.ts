import { and, asc, count, eq, gt, max } from "drizzle-orm";
import { type Message, messageMax } from "../protocol/renew.ts";
import type { Reads, Tx } from "./database.ts";
import { messages } from "./schema.ts";

/** The most messages one run takes. */
const messagesMax = 100;
/** The most characters of a name that are kept. */
const nameMax = 100;

/** Keeps what `by` says to a run that is under way; false: the run has been told as much as it may be. */
export async function addMessage(
  tx: Tx,
  runId: string,
  { by, text }: { by: string; text: string },
): Promise<boolean> {
  const [known] = await tx
    .select({ last: max(messages.id), number: count() })
    .from(messages)
    .where(eq(messages.runId, runId));
  if ((known?.number ?? 0) >= messagesMax) return false;
  await tx.insert(messages).values({
    runId,
    id: (known?.last ?? 0) + 1,
    by: by.slice(0, nameMax),
    text: text.slice(0, messageMax),
    at: tx.now,
  });
  return true;
}

/** The messages of a run after the one with number `after`, in order, at most `limit`. */
export async function messagesAfter(
  tx: Reads,
  runId: string,
  after: number,
  limit = messagesMax,
): Promise<Message[]> {
  return await tx
    .select({ id: messages.id, by: messages.by, text: messages.text })
    .from(messages)
    .where(and(eq(messages.runId, runId), gt(messages.id, after)))
    .orderBy(asc(messages.id))
    .limit(limit);
}
