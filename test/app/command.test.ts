import { expect, test } from "vitest";
import { helpTable, parseCommand } from "../../app/command.ts";

const understood: [string, object][] = [
  ["/trimo run", { name: "run", prompt: "" }],
  ["/trimo run do it", { name: "run", prompt: "do it" }],
  ["/TRIMO Run do it", { name: "run", prompt: "do it" }],
  ["  /trimo fix a\nb\n\nc", { name: "fix", prompt: "a\nb\n\nc" }],
  ["Hello\n\n/trimo continue and\r\nthen", { name: "continue", prompt: "and\nthen" }],
  [
    "/trimo run agent=codex image=acme/dev:1 go",
    { name: "run", agent: "codex", image: "acme/dev:1", prompt: "go" },
  ],
  ["/trimo run fix agent=codex", { name: "run", agent: null, prompt: "fix agent=codex" }],
  ["/trimo retry", { name: "retry" }],
  ["/trimo cancel", { name: "cancel" }],
  ["```\n/trimo cancel\n```\n/trimo status", { name: "status" }],
];
test.each(understood)("%j is understood", (comment, command) => {
  expect(parseCommand(comment)).toMatchObject(command);
});

const silent = [
  "",
  "hello",
  "see /trimo run",
  "/trimos run",
  "/trimo-run",
  "> /trimo run",
  "    /trimo run",
  "`/trimo run`",
  "```\n/trimo run\n```",
  "~~~\n/trimo run",
  "````\n```\n/trimo run\n````",
  "[/trimo cancel](x)",
  "\t/trimo run",
  "- /trimo run",
];
test.each(silent)("%j says nothing to Trimo", (comment) => {
  expect(parseCommand(comment)).toBeNull();
});

const misunderstood: [string, string][] = [
  ["/trimo", "Say what to do"],
  ["/trimo rnu", "Did you mean `/trimo run`"],
  ["/trimo cancle", "Did you mean `/trimo cancel`"],
  ["/trimo bananas", "There is"],

  ["/trimo run agent=../x", "plain name"],
  ["/trimo run image=--privileged", "plain name"],
  ["/trimo __proto__", "There is no command"],
];
test.each(misunderstood)("%j gets an answer that helps", (comment, words) => {
  const answer = parseCommand(comment);
  expect(answer).toHaveProperty("problem");
  expect((answer as { problem: string }).problem).toContain(words);
});

test("what a reader does not see is no command, and no prompt", () => {
  expect(parseCommand("Fine.\n<!--\n/trimo run do evil\n-->")).toBeNull();
  expect(parseCommand("<!--\n/trimo run")).toBeNull();
  expect(parseCommand("/trimo run a\u200bb\u{e0041}<!-- and evil -->c")).toMatchObject({
    prompt: "abc",
  });
});

test("nothing in the help begins a line with a command", () => {
  for (const line of helpTable().split("\n")) expect(parseCommand(line)).toBeNull();
});
