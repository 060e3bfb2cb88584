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

/** Codex 0.169, `codex exec --json` (developers.openai.com/codex/noninteractive). */
export const codexAdapter: Adapter = {
  start,
  reader,
  sessionFiles: [".codex/sessions"],
  acceptsMessages: false,
  login: loginPlaces.codex,
};

function start({ model, gateway, resume }: Launch): Start {
  const provider = gateway
    ? [
        "model_provider=trimo",
        `model_providers.trimo={name="trimo",base_url="${gateway}/v1",env_key="TRIMO_MODEL_KEY",wire_api="responses",request_max_retries=3,stream_max_retries=4}`,
      ]
    : [];
  const settings = [...provider, "analytics.enabled=false", "features.plugins=false"];
  return {
    command: promptOnStdin([
      "codex",
      "exec",
      ...(resume ? ["resume"] : []),
      "--json",
      "--dangerously-bypass-approvals-and-sandbox",
      "--skip-git-repo-check",
      ...settings.flatMap((setting) => ["-c", setting]),
      ...(model ? ["-m", model] : []),
      ...(resume ? [resume] : []),
      "-",
    ]),
    env: gateway ? { TRIMO_MODEL_KEY: placeholder } : {},
  };
}

function reader(resumed: Spent | null): Reader {
  const before = resumed ?? nothingSpent;
  let session: string | null = null;
  let total: Spent | null = null;
  let done = false;
  let failure = "";
  return {
    read(line) {
      const event = tell.parseRow(line);
      if (!event) return [];
      switch (event.type) {
        case "thread.started":
          session = tell.text(event.thread_id) || session;
          return [];
        case "turn.started":
          done = false;
          return [];
        case "error":
          failure = tell.text(event.message);
          return [];
        case "turn.failed":
          done = false;
          failure = tell.text(tell.row(event.error).message) || "the turn failed";
          return [];
        case "turn.completed":
          done = true;
          failure = "";
          total = spentBy(tell.row(event.usage));
          return [tell.usage(total, before)];
        default:
          return itemFacts(String(event.type), tell.row(event.item));
      }
    },
    end(end) {
      if (done && end.exit === 0) return null;
      return failure && !done ? tell.failedWith(failure) : tell.endedEarly(end, failure);
    },
    session: () => (session ? { id: session, spent: total ?? before } : null),
  };
}

function itemFacts(type: string, item: tell.Row): Fact[] {
  const began = type === "item.started";
  const ended = type === "item.completed";
  switch (item.type) {
    case "agent_message":
      return ended ? tell.said(tell.text(item.text)) : [];
    case "command_execution":
      return began ? tell.tool("shell", tell.commandHead(tell.text(item.command))) : [];
    case "file_change":
      return ended && item.status !== "failed"
        ? tell.list(item.changes).flatMap((one) => tell.edit(tell.row(one).path, null, null))
        : [];
    case "todo_list":
      return tell.todos(item.items, "text", "completed");
    case "mcp_tool_call":
      return began ? tell.tool(`${item.server}/${item.tool}`, "") : [];
    case "web_search":
      return ended ? tell.tool("web_search", tell.text(item.query)) : [];
    default:
      return [];
  }
}

/** Of the whole session; what came from the cache is part of the input. */
function spentBy(used: tell.Row): Spent {
  const cached = tell.number(used.cached_input_tokens);
  const input = Math.max(0, tell.number(used.input_tokens) - cached);
  return tell.spentOf(input, cached, tell.number(used.output_tokens), 0);
}
