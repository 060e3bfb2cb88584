import { expect, test } from "vitest";
import type { Remark } from "../../../app/github/objects.ts";
import { requestOf, thatCount } from "../../../app/prompt/gather.ts";
import type { Run } from "../../../app/state/run.ts";

// Which words reach an agent: those of people who may write, said between the last run and the request.

const since = 1_000_000;
const askedAt = 2_000_000;
const writers = new Set(["ana", "ben"]);
const remark = (changes: Partial<Remark> = {}): Remark => ({
  by: "ana",
  bot: false,
  body: "Use UTC.",
  at: since + 60_000,
  editedAt: 0,
  spot: null,
  review: null,
  ...changes,
});
const told = (remarks: Remark[]) => thatCount(remarks, { since, askedAt }, writers);

test.each<[string, Partial<Remark>, { kept: number; outsiders?: number; edited?: number }]>([
  ["a writer's remark", {}, { kept: 1 }],
  ["an outsider's, which is counted", { by: "mallory" }, { kept: 0, outsiders: 1 }],
  ["a bot's, which is not even counted", { by: "ci[bot]", bot: true }, { kept: 0 }],
  ["one that the run before was told already", { at: since - 1_000 }, { kept: 0 }],
  ["one of the second of that run's request", { at: since - 999 }, { kept: 1 }],
  [
    "one said before it and edited after it",
    { at: since - 9_000, editedAt: since + 1 },
    { kept: 1 },
  ],
  ["one of the second of this request", { at: askedAt + 1_000 }, { kept: 1 }],
  ["one said after this request", { at: askedAt + 1_001 }, { kept: 0 }],
  ["one edited after it, which is counted", { editedAt: askedAt + 1_001 }, { kept: 0, edited: 1 }],
  [
    "an outsider's that was edited: an outsider's",
    { by: "mallory", editedAt: askedAt + 9_000 },
    {
      kept: 0,
      outsiders: 1,
    },
  ],
  ["a command, which is a run of its own", { body: "/trimo fix the tests" }, { kept: 0 }],
  ["nothing but a hidden comment", { body: "<!-- nothing to see -->" }, { kept: 0 }],
])("an agent is told of %s", (_what, changes, { kept, outsiders = 0, edited = 0 }) => {
  expect(told([remark(changes)])).toEqual({
    kept: kept ? [{ by: "ana", body: "Use UTC.", spot: null }] : [],
    outsiders,
    edited,
  });
});

test("remarks are told oldest first, in whatever order GitHub lists them", () => {
  const later = remark({ by: "ben", body: "And in summer?", at: since + 90_000 });
  expect(told([later, remark()]).kept.map(({ by }) => by)).toEqual(["ana", "ben"]);
});

const run = (changes: Partial<Run>): Run =>
  ({ number: 2, prompt: "Fix it.", origin: { by: "comment" }, ...changes }) as Run;
const last = run({ number: 1 });

test.each<[string, Run, Run | null, string]>([
  ["a person's words", run({}), last, "Fix it."],
  [
    "a label's, without a run before",
    run({ origin: { by: "label" } } as Partial<Run>),
    null,
    "Fix it.",
  ],
  [
    "a run that goes on after a quota, without the one it goes on for",
    run({ origin: { by: "quota" } } as Partial<Run>),
    null,
    "Fix it.",
  ],
])("what was asked is %s as it stands", (_what, asked, before, expected) => {
  expect(requestOf(asked, before)).toBe(expected);
});

test("a run that goes on after a quota is told for which run, before what was asked", () => {
  const text = requestOf(run({ origin: { by: "quota" } } as Partial<Run>), last);
  expect(text).toMatch(/^Continue what run 1 was asked to do\./);
  expect(text.endsWith("\n\nFix it.")).toBe(true);
});
