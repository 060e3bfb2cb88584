import { expect, test } from "vitest";
import { slotsFreeIn, waitBehind } from "../../../app/dispatch/position.ts";

const now = 1_000_000;
const typicalMs = 60_000;

test.each<[string, number[], number, number[]]>([
  ["a daemon without a run", [], 2, [0, 0]],
  ["one that has just begun a run", [now], 2, [60_000, 0]],
  ["one in the middle of a run", [now - 45_000], 1, [15_000]],
  ["one whose run takes longer than usual: it may end now", [now - 200_000], 1, [0]],
  [
    "one that runs more than it has slots, after a restart with fewer",
    [now, now, now],
    2,
    [60_000, 60_000],
  ],
])("slots of %s", (_what, startedAt, slots, expected) => {
  expect(slotsFreeIn(startedAt, { slots, now, typicalMs })).toEqual(expected);
});

test.each<[string, number[], number, number]>([
  ["nobody is ahead and a slot is free", [0, 60_000], 0, 0],
  ["nobody is ahead and every slot is busy: the first that ends", [40_000, 15_000], 0, 15_000],
  ["one is ahead: it takes the free slot", [0, 40_000], 1, 40_000],
  ["two are ahead on one slot: two lengths behind what runs", [15_000], 2, 135_000],
  ["three are ahead on two slots: each takes the one that is free first", [0, 10_000], 3, 70_000],
])("the wait when %s", (_what, freeIn, ahead, expected) => {
  const given = [...freeIn];
  expect(waitBehind(given, ahead, typicalMs)).toBe(expected);
  expect(given).toEqual(freeIn);
});
