import { expect, test } from "vitest";
import { parseCommand } from "../../../app/text/command.ts";
import { visible } from "../../../app/text/mention.ts";
import { helpTable } from "../../../app/view/help.ts";
import { replyBody } from "../../../app/view/reply.ts";

// What each comment comes to. A Markdown parser decides; what a reader of the page does not see as
// words at the start of a line says nothing to Trimo.

type Outcome = {
  fresh?: boolean;
  name: string;
  prompt?: string;
  agent?: string | null;
  image?: string | null;
};
const understood: [string, Outcome][] = [
  // ── each command, bare ──
  ["/trimo run", { name: "run", prompt: "" }],
  ["/trimo fix", { name: "fix", prompt: "" }],
  ["/trimo continue", { name: "continue", prompt: "" }],
  ["/trimo retry", { name: "retry", prompt: "" }],
  ["/trimo run fresh", { name: "run", fresh: true, prompt: "" }],
  [
    "/trimo run fresh: from the beginning",
    { name: "run", fresh: true, prompt: "from the beginning" },
  ],
  ["/trimo run fresh agent=codex go", { name: "run", fresh: true, agent: "codex", prompt: "go" }],
  ["/trimo run Fresh installs fail", { name: "run", fresh: false, prompt: "Fresh installs fail" }],
  ["/trimo fix fresh", { name: "fix", fresh: false, prompt: "fresh" }],
  [
    "/trimo tell agent=x image=y stop",
    { name: "tell", agent: null, prompt: "agent=x image=y stop" },
  ],
  ["/trimo cancel", { name: "cancel", prompt: "" }],
  ["/trimo status", { name: "status", prompt: "" }],
  ["/trimo done", { name: "done", prompt: "" }],
  ["/trimo help", { name: "help", prompt: "" }],
  // ── letter case and spaces ──
  ["/TRIMO RUN", { name: "run" }],
  ["/Trimo Fix It", { name: "fix", prompt: "It" }],
  ["/trimo  \t run", { name: "run" }],
  ["/trimo run   ", { name: "run", prompt: "" }],
  ["   /trimo run", { name: "run" }],
  ["/trimo\trun\tnow", { name: "run", prompt: "now" }],
  ["\r\n\r\n/trimo run\r\n", { name: "run", prompt: "" }],
  ["/trimo run\rgo", { name: "run", prompt: "go" }],
  // ── prompts ──
  ["/trimo run do it", { name: "run", prompt: "do it" }],
  ["/trimo fix a\nb\n\nc", { name: "fix", prompt: "a\nb\n\nc" }],
  ["/trimo fix\nonly below", { name: "fix", prompt: "only below" }],
  ["/trimo fix\n\n\nfar below", { name: "fix", prompt: "far below" }],
  ["Hello\n\n/trimo continue and\r\nthen", { name: "continue", prompt: "and\nthen" }],
  ["Hello\n/trimo continue", { name: "continue", prompt: "" }],
  ["Thanks @ben!\n\n/trimo fix the `null` case", { name: "fix", prompt: "the `null` case" }],
  [
    "/trimo fix **all** of [this](https://x.y)",
    { prompt: "**all** of [this](https://x.y)", name: "fix" },
  ],
  ["/trimo fix 日本語で書いて", { name: "fix", prompt: "日本語で書いて" }],
  ["/trimo fix 🎉 party 🎉", { name: "fix", prompt: "🎉 party 🎉" }],
  ["/trimo fix $(rm -rf /) `id` ; true", { name: "fix", prompt: "$(rm -rf /) `id` ; true" }],
  ["/trimo run #12 and @everyone", { name: "run", prompt: "#12 and @everyone" }],
  ["/trimo run cancel", { name: "run", prompt: "cancel" }],
  ["/trimo run /trimo cancel", { name: "run", prompt: "/trimo cancel" }],
  ["/trimo run\n/trimo cancel", { name: "run", prompt: "/trimo cancel" }],
  ["/trimo status please", { name: "status", prompt: "please" }],
  [
    "/trimo fix see:\n```ts\nconst a = 1;\n```\nthere",
    { name: "fix", prompt: "see:\n```ts\nconst a = 1;\n```\nthere" },
  ],
  ["/trimo fix\n> as ana said\n\ndo so", { name: "fix", prompt: "> as ana said\n\ndo so" }],
  ["/trimo fix\n- [ ] one\n- [ ] two", { name: "fix", prompt: "- [ ] one\n- [ ] two" }],
  ["/trimo fix <b>bold</b>", { name: "fix", prompt: "<b>bold</b>" }],
  ["/trimo fix a | b\n\n| x |\n| - |", { name: "fix", prompt: "a | b\n\n| x |\n| - |" }],
  // ── options ──
  ["/trimo run agent=codex", { name: "run", agent: "codex", prompt: "" }],
  ["/trimo run AGENT=codex go", { name: "run", agent: "codex", prompt: "go" }],
  ["/trimo run image=acme/dev:1", { name: "run", image: "acme/dev:1" }],
  [
    "/trimo run agent=codex image=acme/dev:1 go",
    { name: "run", agent: "codex", image: "acme/dev:1", prompt: "go" },
  ],
  [
    "/trimo run image=acme/dev:1 agent=codex go",
    { name: "run", agent: "codex", image: "acme/dev:1" },
  ],
  ["/trimo fix agent=claude be brief", { name: "fix", agent: "claude", prompt: "be brief" }],
  ["/trimo continue agent=a-b_c9", { name: "continue", agent: "a-b_c9" }],
  ["/trimo run fix agent=codex", { name: "run", agent: null, prompt: "fix agent=codex" }],
  [
    `/trimo run image=x@sha256:${"a".repeat(64)}`,
    { name: "run", image: `x@sha256:${"a".repeat(64)}` },
  ],
  // ── where it stands ──
  ["```\n/trimo cancel\n```\n/trimo status", { name: "status" }],
  ["> /trimo cancel\n\n/trimo status", { name: "status" }],
  ["`/trimo cancel`\n/trimo status", { name: "status" }],
  ["- item\n\n/trimo status", { name: "status" }],
  ["- item\n/trimo status", { name: "status" }],
  ["# Heading\n/trimo status", { name: "status" }],
  ["/trimo status\n---", { name: "status", prompt: "---" }],
  ["a  \n/trimo status", { name: "status" }],
  ["a\\\n/trimo status", { name: "status" }],
  ["<details>\n<summary>Log</summary>\n\ntext\n\n</details>\n\n/trimo status", { name: "status" }],
  ["<!-- a note -->\n\n/trimo status", { name: "status" }],
  ["**bold\ntext**\n/trimo status", { name: "status" }],
  ["[a link](https://x.y)\n/trimo status", { name: "status" }],
  ["~~~\n```\n~~~\n/trimo status", { name: "status" }],
  ["```\n````\n/trimo status", { name: "status" }],
  ["````\n```\n/trimo cancel\n```\n````\n/trimo status", { name: "status" }],
  ["| a | b |\n| - | - |\n| 1 | 2 |\n\n/trimo status", { name: "status" }],
  ["1. /trimo\n\n/trimo status", { name: "status" }],
  // ── signs that nobody sees ──
  ["\u200b/trimo run", { name: "run" }],
  ["\ufeff/trimo run", { name: "run" }],
  ["/tri\u200bmo run", { name: "run" }],
  ["/trimo\u0000 run", { name: "run" }],
  ["/trimo run a\u0007b\u001b[31m", { name: "run", prompt: "ab[31m" }],
  ["/trimo run a\u200bb\u{e0041}<!-- and evil -->c", { name: "run", prompt: "abc" }],
  ["/trimo fix x\n<!-- hidden\nevil -->\ny", { name: "fix", prompt: "x\n\ny" }],
  ["/trimo fix x\n\u202eevil\u202c y", { name: "fix", prompt: "x\nevil y" }],
  ["/trimo fix show `<!-- this -->`", { name: "fix", prompt: "show `<!-- this -->`" }],
  [
    "/trimo fix\n```html\n<!-- this -->\n```",
    { name: "fix", prompt: "```html\n<!-- this -->\n```" },
  ],
];
test.each(understood)("%j is understood", (comment, command) => {
  expect(parseCommand(comment)).toMatchObject(command);
});

const silent = [
  "",
  "hello",
  "\n\n",
  // ── not at the start of a line ──
  "see /trimo run",
  "a /trimo cancel",
  "@ana /trimo run",
  "**/trimo run**",
  "- /trimo run",
  "* /trimo run",
  "1. /trimo run",
  "# /trimo run",
  "| /trimo run |",
  // ── not the word ──
  "/trimos run",
  "/trimo-run",
  "/trimo/run",
  "//trimo run",
  "\\/trimo run",
  "/ trimo run",
  "trimo run",
  "/trimо run",
  // ── code ──
  "    /trimo run",
  "\t/trimo run",
  "`/trimo run`",
  "``\n/trimo run\n``",
  "`a\n/trimo run\nb`",
  "```\n/trimo run\n```",
  "```sh\n/trimo run\n```",
  "~~~\n/trimo run",
  "````\n```\n/trimo run\n````",
  "- ```\n  /trimo run\n  ```",
  // ── quotes, also lazy ones ──
  "> /trimo run",
  ">/trimo run",
  "> a\n/trimo cancel",
  "> > a\n/trimo cancel",
  "> - a\n/trimo cancel",
  // ── links, images, HTML ──
  "[/trimo cancel](x)",
  "[a\n/trimo cancel](x)",
  '[a]: x "\n/trimo cancel"',
  "![a\n/trimo cancel](x)",
  '[a](x "\n/trimo cancel\n")',
  "<div>\n/trimo run\n</div>",
  "<pre>\n/trimo run\n</pre>",
  "<!--\n/trimo run\n-->",
  "Fine.\n<!--\n/trimo run do evil\n-->",
  "a <!--\n/trimo run\n--> b",
  "<!--\n/trimo run",
  '<a title="\n/trimo run\n">x</a>',
  "<script>\n/trimo run\n</script>",
  // ── a line that reads as another ──
  "\u202e/trimo cancel",
  "/trimo \u2066cancel",
  // ── as deep as it gets ──
  `${"> ".repeat(30_000)}\n/trimo run`,
  `${">".repeat(65_000)}\n/trimo run`,
];
test.each(silent.map((comment) => [comment]))("%j says nothing to Trimo", (comment) => {
  expect(parseCommand(comment)).toBeNull();
});

const misunderstood: [string, string][] = [
  ["/trimo", "Add what Trimo should do"],
  ["/trimo   ", "Add what Trimo should do"],
  ["/trimo\nfix it", "Add what Trimo should do"],
  ["/trimo rnu", "Did you mean `/trimo run`"],
  ["/trimo cancle", "Did you mean `/trimo cancel`"],
  ["/trimo canel it", "Did you mean `/trimo cancel`"],
  ["/trimo statsu", "Did you mean `/trimo status`"],
  ["/trimo contineu", "Did you mean `/trimo continue`"],
  ["/trimo hepl", "Did you mean `/trimo help`"],
  ["/trimo retyr", "Did you mean `/trimo retry`"],
  ["/trimo doen", "Did you mean `/trimo done`"],
  ["/trimo bananas", "These exist:"],
  ["/trimo please fix this", "These exist:"],
  ["/trimo run agent=../x", "plain name"],
  ["/trimo run agent=", "plain name"],
  ["/trimo run agent=Claude", "plain name"],
  ["/trimo run image=--privileged", "plain name"],
  ["/trimo run image=$(id)", "plain name"],
  ["/trimo __proto__", "There is no command"],
  ["/trimo constructor", "There is no command"],
  ["/trimo 🎉", "There is no command of that name"],
  ["/trimo <b>", "There is no command"],
  ["/trimo `run`", "Did you mean `/trimo run`"],
];
test.each(misunderstood)("%j gets an answer that helps", (comment, words) => {
  const answer = parseCommand(comment);
  if (!answer || !("about" in answer)) throw new Error("it was understood");
  expect(replyBody({ kind: "misunderstood", about: answer.about })).toContain(words);
});

test("the table has at least 120 comments, each another", () => {
  const all = [...understood.map(([c]) => c), ...silent, ...misunderstood.map(([c]) => c)];
  expect(new Set(all).size).toBe(all.length);
  expect(all.length).toBeGreaterThanOrEqual(120);
});

test("a comment as long as GitHub takes one is read to its end, quickly, whatever it is made of", () => {
  const startedAt = Date.now();
  const long = `/trimo fix ${"x".repeat(65_536 - 11)}`;
  expect(parseCommand(long)).toMatchObject({ name: "fix", prompt: "x".repeat(65_525) });
  for (const piece of ["[", "*a ", "`a``b", "<a ", "**a _b ", "[a](", "![[", "&a", "<!--", "- "]) {
    const body = piece.repeat(Math.floor(65_000 / piece.length));
    parseCommand(`${body}\n\n/trimo fix ${body}`.slice(0, 65_536));
    parseCommand(`/trimo fix\n${body}`);
  }
  // Not a measurement: the slow parser that was tried first took half a minute for one of these.
  expect(Date.now() - startedAt).toBeLessThan(20_000);
});

test("text as its reader sees it keeps code and loses what is hidden", () => {
  expect(visible("a<!-- b -->c")).toBe("ac");
  expect(visible("a ` b\n\n<!-- evil ` -->c")).toBe("a ` b\n\nc");
  expect(visible("    <!-- code -->\n")).toBe("    <!-- code -->\n");
  expect(visible("x\n<!-- never ends")).toBe("x");
  expect(visible("x<!-- never ends")).toBe("x");
  expect(visible("\u202eabc\u202c")).toBe("abc");
});

test("nothing in the help begins a line with a command", () => {
  const table = helpTable({ run: "triage" });
  for (const line of table.split("\n")) expect(parseCommand(line)).toBeNull();
  expect(table).toMatch(/\/trimo run .*\| triage \|/);
});
