import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { createInterface } from "node:readline";
import type { DriverSettings } from "./task.ts";

// Runs an agent that takes messages while it works, as the agent's own user:
//
//   node driver.js SETTINGS COMMAND…
//
// Hands it the prompt, then whatever `/trimo tell` says, which is asked for at the gateway. What the
// agent prints goes on as it is; lines of the driver's own have the key `trimo`. `stream-json` is
// Claude Code's: a JSON line a message, the turn's end is a line of type `result`. `acp` is the Agent
// Client Protocol, version 1 (agentclientprotocol.com): JSON-RPC 2.0, a line a message.

const gateway = { host: "127.0.0.1", port: 3128 };
/** How long an agent that has said its last may take to end by itself. */
const exitMsMax = 20_000;
/** How long an agent that has ended may be read. */
const drainMs = 1_000;
/** What was said within this time before a turn's end may begin another one. */
const saidLatelyMs = 2_000;
/** Between closing its stdin, asking it to end, and ending it. */
const askedMs = 3_000;
/** A line longer than this is not looked at; it is passed on all the same. */
const lineMax = 4 * 2 ** 20;
const pollPauseMs = 500;

const [settingsText = "{}", ...command] = process.argv.slice(2);
const settings = JSON.parse(settingsText) as DriverSettings;
const promptFile = process.env.TRIMO_PROMPT_FILE ?? "/run/trimo/prompt";

const [file = "", ...args] = command;
const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
// A pipe whose reader has ended: its exit tells why.
child.stdin?.on("error", () => {});
/** Lines of our own come between the agent's, never into one. */
let lineOpen = false;
const own: string[] = [];
const exited = new Promise<number>((resolve) => {
  child.on("error", (error) => {
    say({ trimo: "error", message: error.message });
    resolve(127);
  });
  child.on("exit", (exit, signal) => {
    if (signal) say({ trimo: "error", message: `${file} was ended by ${signal}` });
    // What it had printed is read first; a process it left behind may hold the pipe open.
    const done = () => resolve(exit ?? 1);
    child.once("close", done);
    setTimeout(done, drainMs);
  });
});

process.exitCode = settings.kind === "acp" ? await driveAcp() : await driveStreamJson();
lineOpen = false;
say(null);
process.stdout.write("", () => process.exit());

function say(line: object | null) {
  if (line) own.push(`${JSON.stringify(line)}\n`);
  if (!lineOpen) for (const text of own.splice(0)) process.stdout.write(text);
}

/** What the agent prints, as it is. */
function passOn(chunk: Buffer) {
  process.stdout.write(chunk);
  lineOpen = chunk.at(-1) !== 10;
  say(null);
}

/**
 * A result ends a turn. When nothing follows it, that was the last: then stdin is closed. What was said
 * shortly before may begin another turn, which has a result of its own.
 */
async function driveStreamJson(): Promise<number> {
  const send = (text: string) =>
    child.stdin?.write(
      `${JSON.stringify({ type: "user", message: { role: "user", content: [{ type: "text", text }] } })}\n`,
    );
  send(readFileSync(promptFile, "utf8"));
  const listening = new AbortController();
  let saidAt = 0;
  void listen(listening.signal, (text) => {
    saidAt = Date.now();
    send(text);
  });
  let finishedAt = 0;
  child.stdout?.on("data", passOn);
  onLines(child, (line) => {
    const type = /"type"\s*:\s*"(?:system|assistant|user|result)"/.test(line)
      ? (parse(line) as { type?: unknown } | null)?.type
      : null;
    if (type === "result") finishedAt = Date.now();
    // Notes of the session's may follow a result; words of a turn mean that there is another one.
    else if (type === "assistant" || type === "user") finishedAt = 0;
  });
  const over = async () => {
    // Longer where something was said just before: its turn may be about to begin.
    const quietMs = () => (finishedAt - saidAt < saidLatelyMs ? saidLatelyMs : 0);
    await once(() => finishedAt > 0 && Date.now() - finishedAt >= quietMs());
    listening.abort();
    child.stdin?.end();
    return await lingered(() => finishedAt > 0);
  };
  const exit = await Promise.race([exited, over()]);
  listening.abort();
  return exit;
}

/** Its exit, or 0 when it said its last and does not end. */
async function lingered(finished: () => boolean): Promise<number> {
  const late = async () => {
    for (let quietMs = 0; quietMs < exitMsMax; quietMs = finished() ? quietMs + 100 : 0)
      await pause(100);
    say({ trimo: "notice", message: "the agent did not end after its last word; it was ended" });
    child.kill("SIGKILL");
    return 0;
  };
  return await Promise.race([exited, late()]);
}

type Message = {
  id?: number | string;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { code?: number; message?: string; data?: unknown };
};
type Permission = { options?: { optionId: string; kind?: string }[] };

async function driveAcp(): Promise<number> {
  const waiting = new Map<number, (message: Message) => void>();
  let next = 1;
  let replaying = true;
  const write = (message: object) =>
    child.stdin?.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  const ask = (method: string, params: object): Promise<Message> =>
    new Promise((resolve) => {
      const id = next++;
      waiting.set(id, resolve);
      write({ id, method, params });
      void exited.then((exit) => resolve({ error: { message: `it ended with exit ${exit}` } }));
    });
  onLines(child, (line) => {
    const message = parse(line) as Message | null;
    if (!message) return say({ trimo: "line", text: line.slice(0, 2_000) });
    if (message.method === undefined) return void waiting.get(Number(message.id))?.(message);
    if (message.id !== undefined) return void write({ id: message.id, ...answerTo(message) });
    if (message.method === "session/update" && !replaying)
      say({ trimo: "update", update: message.params?.update });
  });
  const begun = await beginSession(ask);
  if ("problem" in begun) return failed(begun.problem);
  replaying = false;
  say({ trimo: "session", id: begun.session, resumed: begun.resumed });
  const listening = new AbortController();
  const told: string[] = [];
  void listen(listening.signal, (text) => {
    told.push(text);
    // A turn takes nothing in between: it is ended, and the next one goes on with all it knows.
    write({ method: "session/cancel", params: { sessionId: begun.session } });
  });
  // Without its session it is told of the runs before as well.
  const lost = settings.session !== null && !begun.resumed && existsSync(`${promptFile}-fresh`);
  const prompt = readFileSync(lost ? `${promptFile}-fresh` : promptFile, "utf8");
  for (let text: string | undefined = prompt; text !== undefined; text = told.shift()) {
    const params = { sessionId: begun.session, prompt: [{ type: "text", text }] };
    const answer = await ask("session/prompt", params);
    if (answer.error) return failed(errorText(answer));
    const reason = String(answer.result?.stopReason ?? "");
    if (told.length === 0) say({ trimo: "stop", reason });
  }
  listening.abort();
  child.stdin?.end();
  // What it remembers by is written at its end by some.
  await Promise.race([exited, pause(askedMs)]);
  child.kill("SIGTERM");
  await Promise.race([exited, pause(askedMs)]);
  child.kill("SIGKILL");
  return 0;
}

/** The earlier session where the agent can load one and has it; else a new one. */
async function beginSession(
  ask: (method: string, params: object) => Promise<Message>,
): Promise<{ session: string; resumed: boolean } | { problem: string }> {
  const hello = await ask("initialize", {
    protocolVersion: 1,
    clientCapabilities: { fs: { readTextFile: false, writeTextFile: false }, terminal: false },
    clientInfo: { name: "trimo", title: "Trimo", version: "1" },
  });
  if (hello.error) return { problem: errorText(hello) };
  const can = hello.result?.agentCapabilities as { loadSession?: boolean } | undefined;
  const place = { cwd: process.cwd(), mcpServers: [] };
  const enter = async (): Promise<Message & { resumed?: boolean }> => {
    if (settings.session && can?.loadSession) {
      const loaded = await ask("session/load", { sessionId: settings.session, ...place });
      if (!loaded.error) return { result: { sessionId: settings.session }, resumed: true };
    }
    return await ask("session/new", place);
  };
  let entered = await enter();
  if (entered.error) {
    // It wants to be told how its key comes: by the environment.
    const methods = (hello.result?.authMethods ?? []) as { id: string }[];
    const byKey = methods.find(({ id }) => /api[-_]?key|openai|env/i.test(id));
    if (byKey) {
      await ask("authenticate", { methodId: byKey.id });
      entered = await enter();
    }
  }
  const session = entered.result?.sessionId;
  if (typeof session !== "string") return { problem: errorText(entered) };
  return { session, resumed: entered.resumed === true };
}

/** What an agent asks of its client: it may do what it wants here, and has its own files and shell. */
function answerTo({ method, params }: Message): Message {
  if (method !== "session/request_permission")
    return { error: { code: -32601, message: `there is no ${method} here` } };
  const options = (params as Permission | undefined)?.options ?? [];
  const chosen =
    options.find(({ kind }) => kind === "allow_always") ??
    options.find(({ kind }) => kind?.startsWith("allow")) ??
    options[0];
  const outcome = chosen
    ? { outcome: "selected", optionId: chosen.optionId }
    : { outcome: "cancelled" };
  return { result: { outcome } };
}

function errorText({ error }: Message): string {
  const more = error?.data === undefined ? "" : ` ${JSON.stringify(error.data).slice(0, 500)}`;
  return `${error?.message ?? "no answer"}${more}`;
}

function failed(message: string): number {
  say({ trimo: "error", message });
  child.kill("SIGKILL");
  return 1;
}

/** Asks the gateway for what people tell this run, until `signal` aborts. */
async function listen(signal: AbortSignal, take: (text: string) => void) {
  for (let after = 0; !signal.aborted; ) {
    const told = await poll(after, signal);
    if (signal.aborted) return;
    if (!told) {
      await pause(pollPauseMs);
      continue;
    }
    after = told.id;
    take(told.text);
    say({ trimo: "message", id: told.id });
  }
}

/** Held open by the gateway until there is something; null when there is not, or nobody answers. */
function poll(after: number, signal: AbortSignal): Promise<{ id: number; text: string } | null> {
  return new Promise((resolve) => {
    const asked = request({ ...gateway, path: `/messages?after=${after}`, signal }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => (text += chunk));
      response.on("error", () => resolve(null));
      response.on("end", () => resolve(response.statusCode === 200 ? parsedTell(text) : null));
    });
    asked.on("error", () => resolve(null));
    asked.end();
  });
}

function parsedTell(text: string): { id: number; text: string } | null {
  const told = parse(text) as { id?: unknown; text?: unknown } | null;
  return typeof told?.id === "number" && typeof told.text === "string"
    ? { id: told.id, text: told.text }
    : null;
}

function onLines({ stdout }: ChildProcess, take: (line: string) => void) {
  if (!stdout) return;
  const lines = createInterface({ input: stdout, crlfDelay: Number.POSITIVE_INFINITY });
  lines.on("line", (line) => line.length <= lineMax && take(line));
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    // An agent prints what it likes.
    return null;
  }
}

async function once(holds: () => boolean) {
  while (!holds()) await pause(50);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
