/** What an answer of a model says beside its words. */
type Told = {
  input: number;
  cached: number;
  output: number;
  /** An error inside a stream that had begun well; null: none. */
  error: string | null;
};

/** A line longer than this is not looked at: usage stands in short ones. */
const lineMax = 1024 * 1024;
/** And an answer in one object longer than this is not. */
const wholeMax = 16 * 2 ** 20;
const marks = ['"usage', '"error"', '"response.failed"'];

/**
 * Looks on while an answer passes: a stream of events or one JSON object, of Anthropic, OpenAI or
 * Gemini. Only lines that speak of usage or errors are parsed, so that it costs next to nothing.
 */
export class AnswerTap {
  told: Told = { input: 0, cached: 0, output: 0, error: null };
  #carry: Buffer[] = [];
  #carried = 0;
  /** The whole of an answer that is one object over several lines; null: it is a stream. */
  #whole: Buffer[] | null;
  #wholeBytes = 0;

  constructor(contentType: string) {
    this.#whole = contentType.includes("json") ? [] : null;
  }

  push(chunk: Buffer) {
    if (this.#whole) {
      this.#wholeBytes += chunk.length;
      if (this.#wholeBytes <= wholeMax) this.#whole.push(chunk);
      return;
    }
    const last = chunk.lastIndexOf(10);
    if (last < 0) return this.#keep(chunk);
    const first = chunk.indexOf(10);
    this.#line(Buffer.concat([...this.#carry, chunk.subarray(0, first)]));
    this.#carry = [];
    this.#carried = 0;
    const middle = chunk.subarray(first + 1, last);
    if (marks.some((mark) => middle.includes(mark))) this.#lines(middle);
    this.#keep(chunk.subarray(last + 1));
  }

  end() {
    if (this.#whole && this.#wholeBytes <= wholeMax) this.#line(Buffer.concat(this.#whole));
    this.#line(Buffer.concat(this.#carry));
    this.#carry = [];
    this.#whole = null;
  }

  #keep(rest: Buffer) {
    this.#carried += rest.length;
    if (this.#carried > lineMax) this.#carry = [];
    else if (rest.length > 0) this.#carry.push(rest);
  }

  #lines(block: Buffer) {
    for (let at = 0; at <= block.length; ) {
      const newline = block.indexOf(10, at);
      const end = newline < 0 ? block.length : newline;
      this.#line(block.subarray(at, end));
      at = end + 1;
    }
  }

  #line(line: Buffer) {
    if (line.length === 0 || !marks.some((mark) => line.includes(mark))) return;
    const text = line
      .toString("utf8")
      .replace(/^data:\s*/, "")
      .trim();
    if (!text.startsWith("{") && !text.startsWith("[")) return;
    try {
      const parsed = JSON.parse(text) as unknown;
      for (const one of Array.isArray(parsed) ? parsed : [parsed]) this.#take(one as Body);
    } catch {
      // An object over several lines, or words that look like one.
    }
  }

  #take(body: Body) {
    const inner = body.response ?? (typeof body.message === "object" ? body.message : null);
    this.#count(body.usage ?? inner?.usage ?? null);
    this.#countGemini(body.usageMetadata ?? null);
    const failed = body.type === "response.failed" || body.type === "error" || body.error != null;
    if (!failed) return;
    const error = inner?.error ?? body.error ?? null;
    const own = typeof body.message === "string" ? body.message : "";
    const words = typeof error === "string" ? error : (error?.message ?? own);
    const kind = error?.type ?? error?.code ?? body.code ?? "";
    this.told.error = `${kind} ${words}`.trim() || "an error in the stream";
  }

  #count(usage: Usage | null) {
    if (!usage) return;
    // OpenAI counts what came from its cache as part of the input, Anthropic beside it.
    const inside =
      usage.input_tokens_details?.cached_tokens ?? usage.prompt_tokens_details?.cached_tokens ?? 0;
    const input =
      number(usage.input_tokens ?? usage.prompt_tokens) -
      number(inside) +
      number(usage.cache_creation_input_tokens);
    const cached = number(inside) + number(usage.cache_read_input_tokens);
    this.#raise(input, cached, number(usage.output_tokens ?? usage.completion_tokens));
  }

  #countGemini(usage: GeminiUsage | null) {
    if (!usage) return;
    const cached = number(usage.cachedContentTokenCount);
    this.#raise(
      number(usage.promptTokenCount) - cached,
      cached,
      number(usage.candidatesTokenCount) + number(usage.thoughtsTokenCount),
    );
  }

  /** Told several times in one answer, growing. */
  #raise(input: number, cached: number, output: number) {
    const { told } = this;
    told.input = Math.max(told.input, input, 0);
    told.cached = Math.max(told.cached, cached);
    told.output = Math.max(told.output, output);
  }
}

type Usage = {
  input_tokens?: unknown;
  prompt_tokens?: unknown;
  output_tokens?: unknown;
  completion_tokens?: unknown;
  cache_creation_input_tokens?: unknown;
  cache_read_input_tokens?: unknown;
  input_tokens_details?: { cached_tokens?: unknown } | null;
  prompt_tokens_details?: { cached_tokens?: unknown } | null;
};
type GeminiUsage = {
  promptTokenCount?: unknown;
  cachedContentTokenCount?: unknown;
  candidatesTokenCount?: unknown;
  thoughtsTokenCount?: unknown;
};
type Failure = { type?: string; code?: string; message?: string };
type Body = {
  type?: string;
  usage?: Usage | null;
  usageMetadata?: GeminiUsage | null;
  error?: Failure | null;
  code?: string | null;
  response?: { usage?: Usage | null; error?: Failure | null };
  message?: { usage?: Usage | null; error?: Failure | null } | string | null;
};

const number = (value: unknown): number =>
  typeof value === "number" && Number.isFinite(value) && value > 0 ? Math.round(value) : 0;
