import { expect, test } from "vitest";
import { failureCodes } from "../../../app/protocol/failure.ts";
import { parseCommand } from "../../../app/text/command.ts";
import { code, endOf, fenced, plain } from "../../../app/text/markdown.ts";
import { failureWords } from "../../../app/view/failure.ts";
import { duration } from "../../../app/view/units.ts";

test("every failure has a title and a fix", () => {
  for (const failure of failureCodes) {
    expect(failureWords[failure].title).toMatch(/^\S.*[^.]$/);
    expect(failureWords[failure].fix).toMatch(/\.$/);
  }
});

test.each([
  [400, "0.4 s"],
  [9_940, "9.9 s"],
  [12_000, "12 s"],
  [192_000, "3 min 12 s"],
  [120_000, "2 min"],
  [3_600_000, "1 h"],
  [5_400_000, "1 h 30 min"],
  [-5, "0.0 s"],
])("%d ms is %s", (ms, text) => expect(duration(ms)).toBe(text));

test("somebody's words cannot make markup, mentions, commands or lines of their own", () => {
  const hostile = [
    "# big",
    "@everyone look",
    "/trimo cancel",
    "a\n/trimo cancel",
    "</table><img src=x>",
    "| a | b |",
    "[x](javascript:1)",
    "\u202eevil",
    "`code`",
    "***",
    "\u0000\u0007",
  ];
  for (const words of hostile) {
    const text = plain(words, 100);
    expect(text).not.toMatch(/\n|(^|[^\\])[<>|`[\]]|@\w|\p{Cc}|\u202e/u);
    expect(parseCommand(text)).toBeNull();
  }
  expect(plain("x".repeat(50), 10)).toHaveLength(10);
});

test("an agent's words close no issue and mention nobody", () => {
  for (const words of ["Fixes GH-5", "closes https://github.com/o/r/issues/5", "Resolved #5"])
    expect(plain(words, 100)).toMatch(/^\w+\u200b /);
  expect(plain("&commat;everyone &lt;b&gt;", 100)).toBe("&amp;commat;everyone &amp;lt;b&amp;gt;");
});

test("a fence holds whatever is inside", () => {
  const text = fenced("a\n```\n/trimo cancel\n````\nb");
  expect(text.startsWith("`````\n")).toBe(true);
  expect(parseCommand(text)).toBeNull();
  expect(code("a`b")).toBe("`` a`b ``");
  expect(code("a```@x")).toBe("```` a```@x ````");
});

test("the end of a long text begins at a line", () => {
  expect(endOf("short", 100)).toBe("short");
  const long = Array.from({ length: 100 }, (_, i) => `line ${i}`).join("\n");
  expect(endOf(long, 60)).toMatch(/^…\nline \d+\n/);
  expect(endOf(long, 60).length).toBeLessThanOrEqual(60);
});
