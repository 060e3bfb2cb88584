import type { Fact } from "../../app/protocol/event.ts";
import {
  type Adapter,
  driver,
  type Launch,
  nothingSpent,
  type Problem,
  type Reader,
  type Spent,
  type Start,
} from "./adapter.ts";
import * as tell from "./facts.ts";
import { opencodeEnv } from "./opencode.ts";

/**
 * An adapter for every agent that speaks the Agent Client Protocol (agentclientprotocol.com), version 1: the
 * driver in the image is its client, and what it prints is read here.
 */
export function acpAdapter(
  command: string[],
  sessionFiles: string[] | undefined,
  modelEnv: (launch: Launch) => Record<string, string>,
): Adapter {
  const start = (launch: Launch): Start => ({
    command: [...driver, JSON.stringify({ kind: "acp", session: launch.resume }), ...command],
    env: {
      ...modelEnv(launch),
      ...(command[0] === "opencode" ? opencodeEnv(launch.model, launch.gateway) : {}),
    },
  });
  return {
    start,
    reader,
    sessionFiles: sessionFiles ?? usualSessionFiles,
    acceptsMessages: true,
    login: null,
  };
}

/** Where Gemini, Qwen and opencode keep their sessions. */
const usualSessionFiles = [
  ".gemini/tmp",
  ".gemini/projects.json",
  ".qwen/projects",
  ".local/share/opencode/opencode.db",
  ".local/share/opencode/opencode.db-wal",
  ".local/share/opencode/opencode.db-shm",
];

const notLoaded: Fact = {
  type: "session",
  from: "handoff",
  why: "the agent could not load its session",
};

/** Gemini says among its words that it may do what it wants from now on. */
const modeNote = /^\[MODE_UPDATE\] \w+$/;

type Call = { told: boolean; kind: string; title: string; input: tell.Row; place: string };
/** Calls that are kept in mind; an agent that never ends one must not fill memory. */
const callsMax = 1_000;

function reader(before: Spent | null): Reader {
  let session: string | null = null;
  let resumed: boolean | null = null;
  let stop: string | null = null;
  let failure = "";
  let words = "";
  let spent: Spent = nothingSpent;
  const calls = new Map<string, Call>();
  const spoken = (): Fact[] => {
    const whole = words;
    words = "";
    return tell.said(whole);
  };
  return {
    read(line) {
      const event = tell.parseRow(line);
      if (!event) return [];
      switch (event.trimo) {
        case "session":
          session = tell.text(event.id) || null;
          resumed = event.resumed === true;
          return before && !resumed ? [notLoaded] : [];
        case "stop":
          stop = tell.text(event.reason) || "unknown";
          return spoken();
        case "error":
          failure = tell.text(event.message) || "it gave no reason";
          return spoken();
        case "update": {
          const update = tell.row(event.update);
          // Words come in pieces; anything else ends them.
          if (update.sessionUpdate === "agent_message_chunk") {
            stop = null;
            const piece = tell.text(tell.row(update.content).text);
            words = (words + piece.replace(modeNote, "")).slice(-20_000);
            const counted = usageOf(update);
            if (!counted) return [];
            spent = tell.plus(spent, counted);
            return [...spoken(), tell.usage(spent, nothingSpent)];
          }
          return [...spoken(), ...updateFacts(update, calls)];
        }
        default:
          return [];
      }
    },
    end: (end) => judge(end.exit, stop, failure) ?? (stop ? null : tell.endedEarly(end, failure)),
    session: () => (session ? { id: session, spent: (resumed && before) || nothingSpent } : null),
  };
}

function judge(exit: number | null, stop: string | null, failure: string): Problem | null {
  if (failure) return tell.failedWith(failure);
  if (stop === "refusal") return { code: "agent_refused", text: "The model will not do this." };
  if (stop !== null && stop !== "end_turn")
    return { code: "agent_failed", text: `the agent stopped: ${stop}` };
  if (stop === "end_turn" && exit !== 0)
    return { code: "agent_crashed", text: `the agent ended with exit ${exit}` };
  return null;
}

function updateFacts(update: tell.Row, calls: Map<string, Call>): Fact[] {
  switch (update.sessionUpdate) {
    case "plan":
      return tell.todos(update.entries);
    case "tool_call":
    case "tool_call_update":
      return callFacts(update, calls);
    default:
      return [];
  }
}

/** A call comes in several updates: told when it is known what it is about, at its end at the latest. */
function callFacts(update: tell.Row, calls: Map<string, Call>): Fact[] {
  const id = tell.text(update.toolCallId);
  const known = calls.get(id) ?? { told: false, kind: "", title: "", input: {}, place: "" };
  const place = tell.row(tell.list(update.locations)[0]).path;
  const call: Call = {
    told: known.told,
    kind: tell.text(update.kind) || known.kind,
    title: tell.text(update.title) || known.title,
    input: { ...known.input, ...tell.row(update.rawInput) },
    place: tell.placeOf(place) || known.place,
  };
  if (calls.size >= callsMax) calls.clear();
  calls.set(id, call);
  const over = update.status === "completed" || update.status === "failed";
  if (call.kind === "edit") {
    if (update.status !== "completed" || call.told) return [];
    call.told = true;
    return editFacts(update, call);
  }
  const clear = update.status === "in_progress" || tell.text(call.input.command) !== "";
  if (call.told || !(over || clear)) return [];
  call.told = true;
  if (Array.isArray(call.input.todos)) return tell.todos(call.input.todos);
  if (call.kind === "execute") {
    // Some name only the tool: one word is no command.
    const command = tell.text(call.input.command) || (call.title.includes(" ") ? call.title : "");
    return tell.tool("shell", tell.commandHead(command));
  }
  const named = call.kind && call.kind !== "other";
  return tell.tool(named ? call.kind : call.title || "tool", call.place);
}

function editFacts(update: tell.Row, call: Call): Fact[] {
  const diffs = tell
    .list(update.content)
    .map(tell.row)
    .filter((one) => one.type === "diff");
  if (diffs.length === 0) {
    const { file_path, filePath, content, oldString, newString } = call.input;
    const after = content ?? newString;
    const known = typeof after === "string";
    const before = typeof oldString === "string" ? oldString : "";
    return tell.edit(
      call.place || file_path || filePath,
      known ? before : null,
      known ? after : null,
    );
  }
  return diffs.flatMap((diff) =>
    tell.edit(diff.path, tell.text(diff.oldText), tell.text(diff.newText)),
  );
}

/** Qwen tells with its words what they have cost. */
function usageOf(update: tell.Row): Spent | null {
  const used = tell.row(tell.row(update._meta).usage);
  if (used.inputTokens === undefined) return null;
  const cached = tell.number(used.cachedReadTokens);
  return tell.spentOf(
    Math.max(0, tell.number(used.inputTokens) - cached),
    cached,
    tell.number(used.outputTokens),
    0,
  );
}
