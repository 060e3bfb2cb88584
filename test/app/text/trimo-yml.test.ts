import { expect, test } from "vitest";
import { parseTrimoYml } from "../../../app/text/trimo-yml.ts";

// Anybody may propose a trimo.yml, and a recursive parser ends its process at a deep one.

const shapes: [string, (depth: number) => string][] = [
  [
    "lists, then maps",
    (n) => `- ${"[".repeat(n)}${"]".repeat(n)}\n- ${"{".repeat(n)}${"}".repeat(n)}`,
  ],
  ["open lists", (n) => "[".repeat(n)],
  ["maps in lists", (n) => "[{a: ".repeat(n)],
  ["a list a line", (n) => "[\n".repeat(n)],
  ["dashes", (n) => "- ".repeat(n)],
  ["questions", (n) => "? ".repeat(n)],
  ["dashes behind a key", (n) => `a: ${"- ".repeat(n)}`],
  ["dashes behind a marker", (n) => `--- ${"- ".repeat(n)}`],
  ["dashes behind another line's end", (n) => `- x\r${"- ".repeat(n)}`],
  ["dashes with anchors", (n) => "- &a ".repeat(n)],
  [
    "steps of a stair",
    (n) => Array.from({ length: Math.min(n, 350) }, (_, i) => `${" ".repeat(i)}a:`).join("\n"),
  ],
];

test.each(shapes)("%s, however deep, are a mistake with a line", (_name, shape) => {
  for (const depth of [1_000, 3_000, 10_000, 30_000]) {
    const { config, mistakes } = parseTrimoYml(shape(depth).slice(0, 16_000));
    expect(config).toEqual({});
    expect(mistakes).toEqual([{ line: expect.any(Number), text: "nested too deep" }]);
  }
});

test("what real files have is not too deep", () => {
  const lines = [
    "# - - - - - - - - - - - - - - - - - - - - - - - -",
    "agent: [claude, codex]",
    "verify:",
    `  - "test ${"[ -e x ] && ".repeat(40)}true"`,
    "  - |",
    `    ${" ".repeat(20)}deeply indented words`,
    "egress: { allow: ['*.example.com:443'] }",
  ];
  expect(parseTrimoYml(lines.join("\n")).mistakes).toEqual([]);
});
