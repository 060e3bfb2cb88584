import { randomBytes } from "node:crypto";
import type { Call } from "./scripts.ts";

/** What a request comes to, whatever its dialect. */
export type Turn = {
  marker: string;
  /** Tool results since the prompt that named the script. */
  step: number;
  stream: boolean;
  model: string;
  tools: Tool[];
};
type Tool = {
  name: string;
  parameters: { properties?: Record<string, { type?: unknown }>; required?: string[] };
};
type Answer = { text: string; call: Call | null; refusal: boolean; turn: Turn };
type Pieces = { stream: string[]; whole: string };
// biome-ignore lint/suspicious/noExplicitAny: bodies of four services, as their clients send them
type Body = any;

export type Dialect = {
  read(body: Body, path: string): Turn;
  write(answer: Answer): Pieces;
  error(type: string, message: string): unknown;
};

export function dialectOf(path: string): Dialect | null {
  const at = path.split("?")[0] ?? "";
  if (at.endsWith("/messages")) return anthropic;
  if (at.endsWith("/responses")) return responses;
  if (at.endsWith("/chat/completions")) return chat;
  if (/:(streamG|g)enerateContent$/.test(at)) return gemini;
  return null;
}

const id = (prefix: string) => `${prefix}_${randomBytes(6).toString("hex")}`;
const event = (name: string, data: object) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
const data = (value: object | string) =>
  `data: ${typeof value === "string" ? value : JSON.stringify(value)}\n\n`;
/** A text in the pieces a model would speak it. */
const spoken = (text: string) => text.match(/[\s\S]{1,12}/g) ?? [];
const usage = (step: number) => ({ input: 1_000 + 20 * step, cached: 500, output: 42 });

/** Messages in order, as what the user said and how many results of tools there are. */
function turnOf(rows: { text: string | null; results: number }[]): {
  marker: string;
  step: number;
} {
  let marker = "";
  let step = 0;
  for (const { text, results } of rows) {
    const named = text === null ? null : /\[\[([a-z]+)\]\]/.exec(text)?.[1];
    if (named) {
      marker = named;
      step = 0;
    }
    step += results;
  }
  return { marker, step };
}

/** The call in the words of the tools that this agent has; null when it has none for it. */
function callOf(call: Call, tools: Tool[]): { name: string; args: object } | null {
  if ("shell" in call) {
    const tool = tools.find(({ name }) =>
      /^(bash|shell|shell_command|exec_command|run_shell_command|local_shell)$/i.test(name),
    );
    if (!tool) return null;
    const properties = tool.parameters.properties ?? {};
    const key = "cmd" in properties ? "cmd" : "command";
    const value = properties[key]?.type === "array" ? ["bash", "-lc", call.shell] : call.shell;
    const described = tool.parameters.required?.includes("description")
      ? { description: "as scripted" }
      : {};
    const background = tool.parameters.required?.includes("is_background")
      ? { is_background: false }
      : {};
    const timeout = "timeout" in properties && tool.name !== "Bash" ? { timeout: 600_000 } : {};
    const wait = "yield_time_ms" in properties ? { yield_time_ms: 30_000 } : {};
    return {
      name: tool.name,
      args: { [key]: value, ...described, ...background, ...timeout, ...wait },
    };
  }
  if ("write" in call) {
    const tool = tools.find(({ name }) => /^(write|write_file)$/i.test(name));
    if (!tool)
      return callOf({ shell: `printf '%s' '${call.write.text}' > ${call.write.path}` }, tools);
    const properties = tool.parameters.properties ?? {};
    const key = ["file_path", "filePath", "absolute_path", "path"].find(
      (name) => name in properties,
    );
    return {
      name: tool.name,
      args: { [key ?? "path"]: `/workspace/${call.write.path}`, content: call.write.text },
    };
  }
  const tool = tools.find(({ name }) =>
    /^(todowrite|todo_write|update_plan|write_todos)$/i.test(name),
  );
  if (!tool) return callOf({ shell: "true" }, tools);
  const state = (done: boolean) => (done ? "completed" : "in_progress");
  if (tool.name === "update_plan")
    return {
      name: tool.name,
      args: { plan: call.plan.map(({ text, done }) => ({ step: text, status: state(done) })) },
    };
  const todos = call.plan.map(({ text, done }, index) => ({
    content: text,
    description: text,
    activeForm: text,
    status: state(done),
    priority: "high",
    id: String(index + 1),
  }));
  return { name: tool.name, args: { todos } };
}

const textOf = (content: Body): string =>
  typeof content === "string"
    ? content
    : (content ?? []).map((part: Body) => part.text ?? "").join("\n");

const anthropic: Dialect = {
  read(body) {
    const rows = (body.messages ?? []).map((message: Body) => {
      const parts = typeof message.content === "string" ? [] : message.content;
      const results = parts.filter((part: Body) => part.type === "tool_result").length;
      return { text: message.role === "user" ? textOf(message.content) : null, results };
    });
    const tools = (body.tools ?? []).map((tool: Body) => ({
      name: tool.name,
      parameters: tool.input_schema ?? {},
    }));
    return { ...turnOf(rows), stream: body.stream === true, model: body.model, tools };
  },
  write({ text, call, refusal, turn }) {
    const made = call ? callOf(call, turn.tools) : null;
    const used = usage(turn.step);
    const content: Body[] = [{ type: "text", text }];
    if (made)
      content.push({ type: "tool_use", id: id("toolu"), name: made.name, input: made.args });
    const stop = refusal ? "refusal" : made ? "tool_use" : "end_turn";
    const counted = {
      input_tokens: used.input,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: used.cached,
    };
    const message = {
      id: id("msg"),
      type: "message",
      role: "assistant",
      model: turn.model,
      content: [] as Body[],
      stop_reason: null as string | null,
      stop_sequence: null,
      usage: { ...counted, output_tokens: 1 },
    };
    const stream = [event("message_start", { type: "message_start", message })];
    for (const [index, block] of content.entries()) {
      const empty = block.type === "text" ? { type: "text", text: "" } : { ...block, input: {} };
      stream.push(
        event("content_block_start", { type: "content_block_start", index, content_block: empty }),
      );
      const pieces = block.type === "text" ? spoken(text) : spoken(JSON.stringify(block.input));
      for (const piece of pieces) {
        const delta =
          block.type === "text"
            ? { type: "text_delta", text: piece }
            : { type: "input_json_delta", partial_json: piece };
        stream.push(event("content_block_delta", { type: "content_block_delta", index, delta }));
      }
      stream.push(event("content_block_stop", { type: "content_block_stop", index }));
    }
    stream.push(
      event("message_delta", {
        type: "message_delta",
        delta: { stop_reason: stop, stop_sequence: null },
        usage: { ...counted, output_tokens: used.output },
      }),
      event("message_stop", { type: "message_stop" }),
    );
    const ended = { ...message, content, stop_reason: stop };
    return {
      stream,
      whole: JSON.stringify({ ...ended, usage: { ...counted, output_tokens: used.output } }),
    };
  },
  error: (type, message) => ({ type: "error", error: { type, message } }),
};

const responses: Dialect = {
  read(body) {
    const input =
      typeof body.input === "string" ? [{ role: "user", content: body.input }] : (body.input ?? []);
    const rows = input.map((item: Body) => ({
      text: item.role === "user" ? textOf(item.content) : null,
      results: /_output$/.test(item.type ?? "") ? 1 : 0,
    }));
    const tools = (body.tools ?? []).map((tool: Body) => ({
      name: tool.name ?? tool.type,
      parameters: tool.parameters ?? {},
    }));
    return { ...turnOf(rows), stream: body.stream === true, model: body.model, tools };
  },
  write({ text, call, turn }) {
    const made = call ? callOf(call, turn.tools) : null;
    const used = usage(turn.step);
    const responseId = id("resp");
    const message = {
      type: "message",
      id: id("msg"),
      role: "assistant",
      status: "completed",
      content: [{ type: "output_text", text, annotations: [] }],
    };
    const output: Body[] = [message];
    if (made)
      output.push({
        type: "function_call",
        id: id("fc"),
        call_id: id("call"),
        name: made.name,
        arguments: JSON.stringify(made.args),
        status: "completed",
      });
    const head = {
      id: responseId,
      object: "response",
      model: turn.model,
      status: "in_progress",
      output: [],
    };
    const stream = [event("response.created", { type: "response.created", response: head })];
    for (const [index, item] of output.entries()) {
      const begun = item === message ? { ...message, content: [], status: "in_progress" } : item;
      stream.push(
        event("response.output_item.added", {
          type: "response.output_item.added",
          output_index: index,
          item: begun,
        }),
      );
      if (item === message)
        for (const delta of spoken(text))
          stream.push(
            event("response.output_text.delta", {
              type: "response.output_text.delta",
              item_id: message.id,
              output_index: 0,
              content_index: 0,
              delta,
            }),
          );
      stream.push(
        event("response.output_item.done", {
          type: "response.output_item.done",
          output_index: index,
          item,
        }),
      );
    }
    const total = {
      input_tokens: used.input,
      input_tokens_details: { cached_tokens: used.cached },
      output_tokens: used.output,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: used.input + used.output,
    };
    const whole = { ...head, status: "completed", output, usage: total };
    stream.push(event("response.completed", { type: "response.completed", response: whole }));
    return { stream, whole: JSON.stringify(whole) };
  },
  error: (type, message) => ({ error: { message, type, code: type, param: null } }),
};

const chat: Dialect = {
  read(body) {
    const rows = (body.messages ?? []).map((message: Body) => ({
      text: message.role === "user" ? textOf(message.content) : null,
      results: message.role === "tool" ? 1 : 0,
    }));
    const tools = (body.tools ?? []).map((tool: Body) => ({
      name: tool.function?.name,
      parameters: tool.function?.parameters ?? {},
    }));
    return { ...turnOf(rows), stream: body.stream === true, model: body.model, tools };
  },
  write({ text, call, turn }) {
    const made = call ? callOf(call, turn.tools) : null;
    const used = usage(turn.step);
    const total = {
      prompt_tokens: used.input,
      completion_tokens: used.output,
      total_tokens: used.input + used.output,
      prompt_tokens_details: { cached_tokens: used.cached },
    };
    const head = {
      id: id("chatcmpl"),
      object: "chat.completion.chunk",
      created: 1,
      model: turn.model,
    };
    const calls = made
      ? [
          {
            index: 0,
            id: id("call"),
            type: "function",
            function: { name: made.name, arguments: JSON.stringify(made.args) },
          },
        ]
      : null;
    const chunk = (delta: object, finish: string | null) =>
      data({ ...head, choices: [{ index: 0, delta, finish_reason: finish }] });
    const finish = calls ? "tool_calls" : "stop";
    const stream = [
      chunk({ role: "assistant", content: "" }, null),
      ...spoken(text).map((piece) => chunk({ content: piece }, null)),
      ...(calls ? [chunk({ tool_calls: calls }, null)] : []),
      chunk({}, finish),
      data({ ...head, choices: [], usage: total }),
      data("[DONE]"),
    ];
    const message = { role: "assistant", content: text, ...(calls ? { tool_calls: calls } : {}) };
    const choices = [{ index: 0, message, finish_reason: finish }];
    return {
      stream,
      whole: JSON.stringify({ ...head, object: "chat.completion", choices, usage: total }),
    };
  },
  error: responses.error,
};

const gemini: Dialect = {
  read(body, path) {
    const rows = (body.contents ?? []).map((content: Body) => ({
      text: content.role === "user" ? textOf(content.parts) : null,
      results: (content.parts ?? []).filter((part: Body) => part.functionResponse).length,
    }));
    const tools = (body.tools ?? [])
      .flatMap((tool: Body) => tool.functionDeclarations ?? [])
      .map((tool: Body) => ({
        name: tool.name,
        parameters: tool.parametersJsonSchema ?? tool.parameters ?? {},
      }));
    const model = /models\/([^:]+):/.exec(path)?.[1] ?? "";
    return { ...turnOf(rows), stream: path.includes(":stream"), model, tools };
  },
  write({ text, call, turn }) {
    const made = call ? callOf(call, turn.tools) : null;
    const used = usage(turn.step);
    const usageMetadata = {
      promptTokenCount: used.input,
      candidatesTokenCount: used.output,
      totalTokenCount: used.input + used.output,
      cachedContentTokenCount: used.cached,
    };
    const of = (parts: object[], finishReason?: string) => ({
      candidates: [
        { content: { role: "model", parts }, index: 0, ...(finishReason ? { finishReason } : {}) },
      ],
      usageMetadata,
      modelVersion: turn.model,
    });
    const last = made ? [{ functionCall: { name: made.name, args: made.args } }] : [{ text: "" }];
    const stream = [
      ...spoken(text).map((piece) => data(of([{ text: piece }]))),
      data(of(last, "STOP")),
    ];
    const parts = [{ text }, ...(made ? last : [])];
    return { stream, whole: JSON.stringify(of(parts, "STOP")) };
  },
  error: (type, message) => ({ error: { code: 0, message, status: type.toUpperCase() } }),
};
