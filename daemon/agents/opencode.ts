import type { Fact } from "../../app/protocol/event.ts";
import { loginPlaces } from "../agent-settings.ts";
import {
  type Adapter,
  type Launch,
  nothingSpent,
  placeholder,
  promptOnStdin,
  type Reader,
  type Spent,
  type Start,
} from "./adapter.ts";
import * as tell from "./facts.ts";

/** opencode 1.18, `opencode run --format json` (opencode.ai/docs/cli). */
export const opencodeAdapter: Adapter = {
  start,
  reader,
  sessionFiles: ["opencode.db", "opencode.db-wal", "opencode.db-shm", "storage"].map(
    (name) => `.local/share/opencode/${name}`,
  ),
  acceptsMessages: false,
  login: loginPlaces.opencode,
};

function start({ model, gateway, resume }: Launch): Start {
  return {
    command: promptOnStdin([
      "opencode",
      "run",
      "--format",
      "json",
      // Without one it asks the model for a title first.
      ...(resume ? ["-s", resume] : ["--title", "Trimo"]),
    ]),
    env: opencodeEnv(model, gateway),
  };
}

/**
 * OpenCode's settings as its environment, also for `opencode acp`: one provider, nothing shared, nothing
 * fetched.
 */
export function opencodeEnv(model: string | null, gateway: string | null): Record<string, string> {
  const name = model ?? "default";
  const provider = {
    npm: "@ai-sdk/openai-compatible",
    name: "Trimo",
    options: { baseURL: `${gateway}/v1`, apiKey: placeholder },
    models: { [name]: { name } },
  };
  const settings = {
    autoupdate: false,
    share: "disabled",
    // A copy of the work tree for every step: Trimo keeps the work itself.
    snapshot: false,
    permission: { edit: "allow", bash: "allow", webfetch: "allow", external_directory: "allow" },
    ...(gateway
      ? { model: `trimo/${name}`, small_model: `trimo/${name}`, provider: { trimo: provider } }
      : model
        ? { model }
        : {}),
  };
  return {
    OPENCODE_CONFIG_CONTENT: JSON.stringify(settings),
    OPENCODE_DISABLE_MODELS_FETCH: "1",
    OPENCODE_DISABLE_AUTOUPDATE: "1",
  };
}

function reader(resumed: Spent | null): Reader {
  const before = resumed ?? nothingSpent;
  let session: string | null = null;
  let spent: Spent = nothingSpent;
  let done = false;
  let failure: { words: string; status: number | null } | null = null;
  return {
    read(line) {
      const event = tell.parseRow(line);
      if (!event) return [];
      session = tell.text(event.sessionID) || session;
      const part = tell.row(event.part);
      switch (event.type) {
        case "step_start":
          done = false;
          return [];
        case "text":
          return tell.said(tell.text(part.text));
        case "tool_use":
          return toolFacts(part);
        case "step_finish":
          done = part.reason === "stop";
          spent = sum(spent, part);
          return [tell.usage(spent, nothingSpent)];
        case "error": {
          const error = tell.row(event.error);
          const data = tell.row(error.data);
          const words = tell.text(data.message) || tell.text(error.name) || "it gave no reason";
          failure = { words, status: tell.number(data.statusCode) || null };
          return [];
        }
        default:
          return [];
      }
    },
    end(end) {
      if (failure) return tell.failedWith(failure.words, failure.status);
      return done && end.exit === 0 ? null : tell.endedEarly(end, "");
    },
    session: () => (session ? { id: session, spent: before } : null),
  };
}

function toolFacts(part: tell.Row): Fact[] {
  const name = tell.text(part.tool);
  const state = tell.row(part.state);
  const input = tell.row(state.input);
  const failed = state.status === "error";
  switch (name) {
    case "bash":
      return tell.tool(name, tell.commandHead(tell.text(input.command)));
    case "edit":
      return failed
        ? []
        : tell.edit(input.filePath, tell.text(input.oldString), tell.text(input.newString));
    case "write":
      return failed ? [] : tell.edit(input.filePath, "", tell.text(input.content));
    case "todowrite":
      return tell.todos(input.todos);
    default:
      return tell.tool(
        name,
        tell.placeOf(input.filePath ?? input.path ?? input.pattern ?? input.url),
      );
  }
}

/** Each step tells its own. */
function sum(spent: Spent, part: tell.Row): Spent {
  const tokens = tell.row(part.tokens);
  const cache = tell.row(tokens.cache);
  const step = tell.spentOf(
    tell.number(tokens.input) + tell.number(cache.write),
    tell.number(cache.read),
    tell.number(tokens.output) + tell.number(tokens.reasoning),
    tell.number(part.cost),
  );
  return tell.plus(spent, step);
}
