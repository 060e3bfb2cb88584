import type { Fact } from "../../app/protocol/event.ts";
import { loginPlaces } from "../agent-settings.ts";
import {
  type Adapter,
  type AgentEnd,
  driver,
  type Launch,
  nothingSpent,
  type Problem,
  placeholder,
  type Reader,
  type Spent,
  type Start,
} from "./adapter.ts";
import * as tell from "./facts.ts";

/** Claude Code 2.1, headless, its messages as JSON lines both ways (code.claude.com/docs/en/headless). */
export const claudeAdapter: Adapter = {
  start,
  reader,
  sessionFiles: [".claude/projects"],
  acceptsMessages: true,
  login: loginPlaces.claude,
};

function start({ model, gateway, subscription, resume, newSession }: Launch): Start {
  const key = subscription ? "CLAUDE_CODE_OAUTH_TOKEN" : "ANTHROPIC_API_KEY";
  const formats = ["--input-format", "stream-json", "--output-format", "stream-json", "--verbose"];
  return {
    command: [
      ...driver,
      JSON.stringify({ kind: "stream-json", session: null }),
      "claude",
      "-p",
      ...formats,
      "--dangerously-skip-permissions",
      ...(resume ? ["--resume", resume] : ["--session-id", newSession]),
      ...(model ? ["--model", model] : []),
    ],
    env: {
      ...(gateway ? { ANTHROPIC_BASE_URL: gateway, [key]: placeholder } : {}),
      CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
      DISABLE_AUTOUPDATER: "1",
      CLAUDE_CODE_MAX_RETRIES: "8",
    },
  };
}

function reader(resumed: Spent | null): Reader {
  const before = resumed ?? nothingSpent;
  let session: string | null = null;
  let total: Spent | null = null;
  let result: tell.Row | null = null;
  let lastError = "";
  let refused = false;
  return {
    read(line) {
      const event = tell.parseRow(line);
      if (!event) return [];
      session = tell.text(event.session_id) || session;
      if (event.type === "system") {
        if (event.subtype === "api_retry") lastError = `${event.error} (${event.error_status})`;
        // A turn that begins after a result makes another one.
        if (event.subtype === "init") result = null;
        return [];
      }
      if (event.type === "assistant" && event.parent_tool_use_id == null) {
        const message = tell.row(event.message);
        refused = message.stop_reason === "refusal";
        return tell.list(message.content).flatMap((part) => factsOf(tell.row(part)));
      }
      if (event.type !== "result") return [];
      result = event;
      refused ||= event.stop_reason === "refusal";
      total = spentBy(event, total);
      return [tell.usage(total, { ...nothingSpent, costMicroUsd: before.costMicroUsd })];
    },
    end: (end) => judge(end, result, refused, lastError),
    session: () => (session ? { id: session, spent: total ?? before } : null),
  };
}

function factsOf(part: tell.Row): Fact[] {
  if (part.type === "text") return tell.said(tell.text(part.text));
  if (part.type !== "tool_use") return [];
  const name = tell.text(part.name);
  const input = tell.row(part.input);
  switch (name) {
    case "Bash":
      return tell.tool(name, tell.commandHead(tell.text(input.command)));
    case "Edit":
      return tell.edit(input.file_path, tell.text(input.old_string), tell.text(input.new_string));
    case "Write":
      return tell.edit(input.file_path, "", tell.text(input.content));
    case "NotebookEdit":
      return tell.edit(input.notebook_path, null, null);
    case "TodoWrite":
      return tell.todos(input.todos);
    case "AskUserQuestion":
      return tell
        .list(input.questions)
        .slice(0, 3)
        .flatMap((one) => {
          const question = tell.text(tell.row(one).question);
          return question ? tell.said(`::ask:: ${question.replace(/\s+/g, " ")}`) : [];
        });
    default: {
      const target =
        input.file_path ?? input.path ?? input.pattern ?? input.url ?? input.description;
      return tell.tool(name, tell.placeOf(target));
    }
  }
}

/** Each result counts the tokens of its own turn; `total_cost_usd` is that of the whole session. */
function spentBy(event: tell.Row, so: Spent | null): Spent {
  const used = tell.row(event.usage);
  const input = tell.number(used.input_tokens) + tell.number(used.cache_creation_input_tokens);
  return tell.spentOf(
    (so?.inputTokens ?? 0) + input,
    (so?.cachedTokens ?? 0) + tell.number(used.cache_read_input_tokens),
    (so?.outputTokens ?? 0) + tell.number(used.output_tokens),
    tell.number(event.total_cost_usd),
  );
}

function judge(
  end: AgentEnd,
  result: tell.Row | null,
  refused: boolean,
  lastError: string,
): Problem | null {
  if (!result) return tell.endedEarly(end, lastError);
  const words = tell.text(result.result) || tell.list(result.errors).map(tell.text).join("\n");
  if (refused) return { code: "agent_refused", text: words.slice(0, 1_000) };
  const wrong = result.is_error !== false || result.subtype !== "success";
  if (wrong) return tell.failedWith(words || String(result.subtype), statusOf(result));
  return end.exit === 0 ? null : tell.endedEarly(end, "");
}

const statusOf = ({ api_error_status: status }: tell.Row): number | null =>
  tell.number(status) || null;
