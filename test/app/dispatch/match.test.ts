import { expect, test } from "vitest";
import { agentNow, suits } from "../../../app/dispatch/match.ts";
import type { Daemon } from "../../../app/state/daemon.ts";
import type { Pause } from "../../../app/state/pause.ts";

const now = 1_000_000;
const daemon = (changes: Partial<Daemon> = {}): Daemon =>
  ({
    id: "studio",
    name: "studio",
    account: null,
    repositories: ["*"],
    agents: ["claude", "codex"],
    slots: 2,
    seenAt: now,
    ...changes,
  }) as Daemon;
const run = { repository: "acme/app", agent: null as string | null, declinedBy: [] as string[] };

test.each<[string, Partial<typeof run>, Partial<Daemon>, boolean]>([
  ["any run where nothing narrows it", {}, {}, true],
  ["an agent that it has", { agent: "codex" }, {}, true],
  ["an agent that it has not", { agent: "gemini" }, {}, false],
  ["a repository of its list", {}, { repositories: ["acme/*"] }, true],
  ["a repository beside its list", {}, { repositories: ["acme/other"] }, false],
  ["its own account, in whatever case", {}, { account: "Acme" }, true],
  ["another account", {}, { account: "evil" }, false],
  ["a run that it has declined", { declinedBy: ["studio"] }, {}, false],
  ["a run that another has declined", { declinedBy: ["mini"] }, {}, true],
])("a daemon is offered %s", (_what, changes, own, isSuited) => {
  expect(suits({ ...run, ...changes }, daemon(own))).toBe(isSuited);
});

const pause = (agent: string, of = "studio"): Pause =>
  ({ daemonId: of, agent, until: now + 60_000 }) as Pause;

test.each<[string, string | null, string[], Pause[], Daemon[], string | null]>([
  ["nobody's: the daemon's first", null, ["claude"], [], [daemon()], null],
  ["its own, without a list", "claude", [], [pause("claude")], [daemon()], "claude"],
  ["its own, while it has quota", "claude", ["claude", "codex"], [], [daemon()], "claude"],
  [
    "the next, while its own has none",
    "claude",
    ["claude", "codex"],
    [pause("claude")],
    [daemon()],
    "codex",
  ],
  [
    "the list's first again, behind its last",
    "codex",
    ["claude", "codex"],
    [pause("codex")],
    [daemon()],
    "claude",
  ],
  [
    "its own on another machine, before the next",
    "claude",
    ["claude", "codex"],
    [pause("claude")],
    [daemon(), daemon({ id: "mini" })],
    "claude",
  ],
  [
    "its own where none has quota: it waits",
    "claude",
    ["claude", "codex"],
    [pause("claude"), pause("codex")],
    [daemon()],
    "claude",
  ],
])("the agent of a run is %s", (_what, agent, fallback, pauses, daemons, expected) => {
  expect(agentNow({ ...run, agent, fallback }, { daemons, pauses, now })).toBe(expected);
});
