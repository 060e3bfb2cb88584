import { DrizzleQueryError } from "drizzle-orm/errors";
import type { Clock } from "../protocol/clock.ts";
import type { Ids } from "./identity.ts";
import type { Wake, Wakes } from "./wake.ts";

// One commit for all writes that wait: it takes the disk milliseconds, whatever is in it.

/** The most that go into one commit: whoever comes next is not to wait for a crowd. */
const groupMax = 32;

/** What a transaction knows besides the database. */
export type OfTransaction = {
  /** When it began, in milliseconds since 1970: everything it writes has this time. */
  readonly now: number;
  /** A new id. */
  newId(): string;
  /** Wakes those who wait for this, once and only after the commit. */
  wake<Name extends keyof Wakes>(name: Name, ...subject: Wakes[Name]): void;
};

/** A transaction of the driver's; in it, another one that can be taken back by itself. */
type Nested<Inner> = {
  transaction<T>(work: (tx: Inner) => Promise<T>): Promise<T>;
};
type Parts<Inner> = {
  clock: Clock;
  ids: Ids;
  wake: Wake;
  /** Runs `work` when nobody else writes, and again when another process held the file. */
  inTurn<T>(work: () => Promise<T>): Promise<T>;
  begin<T>(work: (tx: Inner & Nested<Inner>) => Promise<T>): Promise<T>;
  /** Whether an error is the database's own: then nothing of the whole transaction is there. */
  isStorageError(error: unknown): boolean;
  /** Whether it would meet any other write as well: a full disk, say. */
  isOfAll(error: unknown): boolean;
};

/** One write that waits; `done` is told how it ended once all is stored. */
type Waiting<Inner> = {
  work: (tx: Inner & OfTransaction) => Promise<unknown>;
  done: (end: End) => void;
  /** Why the work itself failed: the engine that rolls back by itself, on a full disk say, says less of it. */
  failed?: unknown;
};
type End = { value: unknown; wakes: (() => void)[] } | { error: unknown };

/** Gives what runs a write together with those that wait beside it. */
export function createGroup<Inner extends object>(parts: Parts<Inner>) {
  const waiting: Waiting<Inner>[] = [];
  const next = async () => {
    const ends = await runGroup(parts, waiting);
    for (const { done, end } of ends) done(end);
  };
  return async <T>(work: (tx: Inner & OfTransaction) => Promise<T>): Promise<T> => {
    const end = await new Promise<End>((resolve) => {
      waiting.push({ work, done: resolve });
      // Each asks for a turn; who comes to it late finds that it is done.
      void next();
    });
    if ("error" in end) throw end.error;
    for (const send of end.wakes) send();
    return end.value as T;
  };
}

/** Takes those that wait when the turn comes; an error of the database's own is everybody's. */
async function runGroup<Inner extends object>(
  parts: Parts<Inner>,
  waiting: Waiting<Inner>[],
): Promise<{ done: (end: End) => void; end: End }[]> {
  let group: Waiting<Inner>[] = [];
  try {
    return await parts.inTurn(async () => {
      // Kept for another try, when another process held the file.
      if (group.length === 0) group = waiting.splice(0, groupMax);
      if (group.length === 0) return [];
      const ends = await parts.begin((tx) => runEach(parts, tx, group));
      return group.map(({ done }, i) => ({ done, end: ends[i] as End }));
    });
  } catch (error) {
    const failed = group.find((one) => one.failed !== undefined)?.failed ?? error;
    if (group.length === 1 || parts.isOfAll(failed))
      return group.map(({ done }) => ({ done, end: { error: failed } }));
    // One of them is at fault, and which is not known: each by itself.
    const alone = group.map((one) => runGroup(parts, [one]));
    return (await Promise.all(alone)).flat();
  }
}

async function runEach<Inner extends object>(
  parts: Parts<Inner>,
  tx: Inner & Nested<Inner>,
  group: Waiting<Inner>[],
): Promise<End[]> {
  for (const one of group) one.failed = undefined;
  const [only] = group;
  if (only && group.length === 1) return [await runOne(parts, tx, only)];
  const ends: End[] = [];
  for (const one of group) {
    try {
      ends.push(await tx.transaction((inner) => runOne(parts, inner, one)));
    } catch (error) {
      const failed = one.failed ?? error;
      if (parts.isStorageError(failed)) throw failed;
      one.failed = undefined;
      ends.push({ error: failed });
    }
  }
  return ends;
}

async function runOne<Inner extends object>(
  { clock, ids, wake }: Parts<Inner>,
  tx: Inner,
  one: Waiting<Inner>,
): Promise<End> {
  const wakes = new Map<string, () => void>();
  const own: OfTransaction = {
    now: clock.now(),
    newId: () => ids.next(),
    wake: (name, ...subject) =>
      void wakes.set(JSON.stringify([name, ...subject]), () =>
        (wake as Wake & { emit(name: string, ...args: unknown[]): boolean }).emit(name, ...subject),
      ),
  };
  try {
    const value = await one.work(Object.assign(tx, own));
    return { value, wakes: [...wakes.values()] };
  } catch (error) {
    one.failed = withoutValues(error);
    throw one.failed;
  }
}

/** Drizzle puts all values, whole deliveries, into the message of its error, which is then logged. */
export function withoutValues(error: unknown): unknown {
  if (!(error instanceof DrizzleQueryError)) return error;
  return new Error(`${error.cause?.message ?? "it failed"}, in: ${error.query.slice(0, 300)}`, {
    cause: error.cause,
  });
}
