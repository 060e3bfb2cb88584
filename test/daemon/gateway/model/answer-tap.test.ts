import { expect, test } from "vitest";
import { AnswerTap } from "../../../../daemon/gateway/model/answer-tap.ts";

const stream = "text/event-stream";
const json = "application/json; charset=utf-8";
const event = (body: object) => `data: ${JSON.stringify(body)}\n\n`;

/** What the tap has heard when `text` came in pieces of `size` bytes. */
function heard(type: string, text: string, size = text.length || 1) {
  const tap = new AnswerTap(type);
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; at += size) tap.push(bytes.subarray(at, at + size));
  tap.end();
  return tap.told;
}

const anthropic =
  event({
    type: "message_start",
    message: {
      usage: {
        input_tokens: 20,
        cache_read_input_tokens: 300,
        cache_creation_input_tokens: 5,
        output_tokens: 1,
      },
    },
  }) +
  event({ type: "content_block_delta", delta: { text: 'a "usage" of words' } }) +
  event({ type: "message_delta", usage: { output_tokens: 42 } });
const chat =
  event({ choices: [{ delta: { content: "hello" } }] }) +
  event({
    choices: [],
    usage: {
      prompt_tokens: 120,
      prompt_tokens_details: { cached_tokens: 100 },
      completion_tokens: 7,
    },
  }) +
  "data: [DONE]\n\n";
const responses = event({
  type: "response.completed",
  response: {
    usage: { input_tokens: 120, input_tokens_details: { cached_tokens: 100 }, output_tokens: 7 },
  },
});
const gemini = event({
  usageMetadata: {
    promptTokenCount: 120,
    cachedContentTokenCount: 100,
    candidatesTokenCount: 4,
    thoughtsTokenCount: 3,
  },
});

test.each<[string, string, string, [number, number, number]]>([
  ["Anthropic's stream, where the cache stands beside the input", stream, anthropic, [25, 300, 42]],
  ["OpenAI's chat stream, where it is part of it", stream, chat, [20, 100, 7]],
  ["OpenAI's responses", stream, responses, [20, 100, 7]],
  ["Gemini's, whose thoughts are output", stream, gemini, [20, 100, 7]],
  [
    "one object over several lines",
    json,
    JSON.stringify({ usage: { input_tokens: 3, output_tokens: 4 } }, null, 2),
    [3, 0, 4],
  ],
  [
    "a list of objects, as Gemini sends without SSE",
    json,
    JSON.stringify([
      { usageMetadata: { promptTokenCount: 1 } },
      { usageMetadata: { promptTokenCount: 9, candidatesTokenCount: 2 } },
    ]),
    [9, 0, 2],
  ],
  ["an answer that tells of nothing", stream, event({ choices: [] }), [0, 0, 0]],
  [
    "numbers that are none",
    stream,
    event({ usage: { input_tokens: "7", output_tokens: -3 } }),
    [0, 0, 0],
  ],
  ["words that only look like an object", stream, 'data: {"usage": broken\n\n', [0, 0, 0]],
])("usage is read from %s, in whatever pieces it comes", (_what, type, text, [
  input,
  cached,
  output,
]) => {
  for (const size of [text.length, 64, 7, 1])
    expect(heard(type, text, size), `pieces of ${size}`).toEqual({
      input,
      cached,
      output,
      error: null,
    });
});

test("usage that is told several times in one answer is the largest, not the sum", () => {
  const text = [1, 5, 5]
    .map((n) => event({ usage: { input_tokens: 10, output_tokens: n } }))
    .join("");
  expect(heard(stream, text)).toMatchObject({ input: 10, output: 5 });
});

test.each<[string, object, string]>([
  [
    "Anthropic's",
    { type: "error", error: { type: "overloaded_error", message: "Overloaded" } },
    "overloaded_error Overloaded",
  ],
  [
    "OpenAI's",
    { error: { code: "rate_limit_exceeded", message: "Slow down" } },
    "rate_limit_exceeded Slow down",
  ],
  [
    "a response's",
    { type: "response.failed", response: { error: { code: "server_error", message: "Oops" } } },
    "server_error Oops",
  ],
  ["one with its words beside", { type: "error", code: "x", message: "Bad" }, "x Bad"],
  ["one without words", { type: "error" }, "an error in the stream"],
])("%s error in a stream is heard", (_what, body, expected) => {
  expect(heard(stream, event(body)).error).toBe(expected);
});

test("a line beyond a megabyte is passed over, and what follows is still heard", () => {
  const long = `data: ${JSON.stringify({ delta: "x".repeat(1_200_000) })}\n\n`;
  const text = long + event({ usage: { input_tokens: 2, output_tokens: 3 } });
  expect(heard(stream, text, 64 * 1024)).toMatchObject({ input: 2, output: 3 });
});
