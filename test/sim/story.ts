import { between, chanceOf } from "./world.ts";

// What people do and what breaks, as a list that is made first and then played: a failing story is made
// shorter by leaving items out (shrink.ts).

/** Times and lengths in milliseconds; `at` from the beginning. */
export type Item =
  | { at: number; do: "label" | "unlabel"; issue: number; label: string }
  | { at: number; do: "comment"; issue: number; body: string }
  /** The pull request of the issue's pipeline, if there is one by then. */
  | { at: number; do: "close" | "reopen"; issue: number }
  /** CI fails on the branch's newest commit. */
  | { at: number; do: "suite"; issue: number }
  /** The next request of the app to GitHub: refused or broken off `before` it has its effect, or after. */
  | { at: number; fault: "github"; status: number; when: "before" | "after" }
  /** GitHub answers 503 for so long. */
  | { at: number; fault: "outage"; ms: number }
  /** The next delivery is lost, comes twice, late, or its answer is lost. */
  | {
      at: number;
      fault: "delivery";
      how: "lost" | "doubled" | "late" | "unanswered" | "refused";
      ms: number;
    }
  /** The next request of a machine to the app is lost, or its answer, or it comes twice. */
  | { at: number; fault: "network"; machine: string; how: "lost" | "unanswered" | "doubled" }
  /** A machine has no network for so long. */
  | { at: number; fault: "cut"; machine: string; ms: number }
  /** The app or a machine is killed, and started again after so long. */
  | { at: number; fault: "kill"; who: string; ms: number }
  /** A machine's engine does not answer for so long; `deadly`: its containers are gone with it. */
  | { at: number; fault: "engine"; machine: string; ms: number; deadly: boolean }
  /** A container of a machine is killed. */
  | { at: number; fault: "container"; machine: string }
  /** A machine's disk is full for so long. */
  | { at: number; fault: "full"; machine: string; ms: number }
  /** A machine has no power for so long; it forgets what was not synced. */
  | { at: number; fault: "power"; machine: string; ms: number }
  /** The app's clock is wrong by so much from here on. */
  | { at: number; fault: "clock"; ms: number };

export type Story = {
  seed: number;
  issues: number;
  /** All is well from here on. */
  calmAt: number;
  items: Item[];
  /** The machines run the daemon's real code; else a model of it. */
  realDaemons?: boolean;
};

/** The machines of every story. */
export const machineNames = ["m1", "m2"];

const stormMs = 200_000;
/** In some stories a machine has no network for longer than its leases. */
const longPart = 0.08;
const longCutMs = 1_200_000;
const runLabel = "trimo";
const holdLabel = "trimo:hold";
const nowLabel = "trimo:now";

/** The story of a seed; with real daemons more can break. */
export function storyOf(seed: number, realDaemons = false): Story {
  const chance = chanceOf(seed, "story");
  const issues = 1 + Math.floor(chance() * 3);
  const items: Item[] = [];
  for (let issue = 1; issue <= issues; issue++) items.push(...peopleAt(issue, chance));
  items.push(...faults(chance));
  const isLong = chance() < longPart;
  if (isLong) {
    const machine = machineNames[Math.floor(chance() * machineNames.length)] ?? "";
    items.push({ at: between(chance, 1_000, stormMs), fault: "cut", machine, ms: longCutMs });
  }
  if (realDaemons) items.push(...machineFaults(chanceOf(seed, "machines")));
  items.sort((a, b) => a.at - b.at);
  return {
    ...(realDaemons ? { realDaemons } : {}),
    seed,
    issues,
    calmAt: isLong ? stormMs + longCutMs : stormMs,
    items,
  };
}

function peopleAt(issue: number, chance: () => number): Item[] {
  const items: Item[] = [];
  let at = between(chance, 0, 60_000);
  const soon = () => between(chance, 300, 4_000);
  const comment = (when: number, body: string) =>
    items.push({ at: when, do: "comment", issue, body });
  const label = (when: number, name: string, how: "label" | "unlabel" = "label") =>
    items.push({ at: when, do: how, issue, label: name });
  label(at, runLabel);
  for (let k = 0; k < 3; k++) {
    at += between(chance, 300, 70_000);
    const what = chance();
    if (what < 0.25) comment(at, `/trimo fix more ${k}`);
    else if (what < 0.45) {
      comment(at, `/trimo run again ${k}`);
      if (chance() < 0.6) comment(at + soon(), "/trimo cancel");
    } else if (what < 0.57) comment(at, "/trimo cancel");
    else if (what < 0.72) {
      label(at, holdLabel);
      label(at + between(chance, 300, 20_000), holdLabel, "unlabel");
    } else if (what < 0.78) {
      label(at, nowLabel);
      label(at + between(chance, 300, 20_000), nowLabel, "unlabel");
    } else if (what < 0.84) comment(at, "/trimo status");
    else if (what < 0.9) items.push({ at, do: "suite", issue });
    else if (what < 0.95) comment(at, `/trimo tell mind the gap ${k}`);
    else {
      items.push({ at, do: "close", issue });
      if (chance() < 0.7) items.push({ at: at + soon(), do: "reopen", issue });
    }
  }
  return items;
}

function faults(chance: () => number): Item[] {
  const items: Item[] = [];
  const when = () => between(chance, 1_000, stormMs);
  const some = (least: number, most: number) => Math.floor(between(chance, least, most + 1));
  const oneOf = <T>(all: readonly [T, ...T[]]): T =>
    all[Math.floor(chance() * all.length)] ?? all[0];
  for (let n = some(10, 30); n > 0; n--) {
    const before = chance() < 0.6;
    const status = before
      ? oneOf([502, 502, 502, 401, 404, 403] as const)
      : oneOf([502, 0] as const);
    items.push({ at: when(), fault: "github", status, when: before ? "before" : "after" });
  }
  for (let n = some(1, 6); n > 0; n--) {
    const how = oneOf(["lost", "lost", "doubled", "late", "unanswered", "refused"] as const);
    items.push({ at: when(), fault: "delivery", how, ms: between(chance, 500, 8_000) });
  }
  for (const machine of machineNames) {
    for (let n = some(5, 20); n > 0; n--) {
      const how = oneOf(["lost", "unanswered", "doubled"] as const);
      items.push({ at: when(), fault: "network", machine, how });
    }
    items.push({ at: when(), fault: "kill", who: machine, ms: between(chance, 500, 90_000) });
    items.push({ at: when(), fault: "cut", machine, ms: between(chance, 500, 100_000) });
  }
  for (let n = some(0, 2); n > 0; n--)
    items.push({ at: when(), fault: "kill", who: "app", ms: between(chance, 500, 150_000) });
  if (chance() < 0.7)
    items.push({ at: when(), fault: "outage", ms: between(chance, 1_000, 90_000) });
  if (chance() < 0.3)
    items.push({ at: when(), fault: "clock", ms: oneOf([-600_000, 600_000, -2_000]) });
  return items;
}

function machineFaults(chance: () => number): Item[] {
  const items: Item[] = [];
  const when = () => between(chance, 1_000, stormMs);
  for (const machine of machineNames) {
    for (let n = Math.floor(between(chance, 0, 3)); n > 0; n--) {
      const deadly = chance() < 0.3;
      items.push({
        at: when(),
        fault: "engine",
        machine,
        ms: between(chance, 500, 60_000),
        deadly,
      });
    }
    for (let n = Math.floor(between(chance, 0, 3)); n > 0; n--)
      items.push({ at: when(), fault: "container", machine });
    if (chance() < 0.3)
      items.push({ at: when(), fault: "full", machine, ms: between(chance, 500, 40_000) });
    if (chance() < 0.3)
      items.push({ at: when(), fault: "power", machine, ms: between(chance, 500, 60_000) });
  }
  return items;
}
