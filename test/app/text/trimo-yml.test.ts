import { expect, test } from "vitest";
import { parseTrimoYml } from "../../../app/text/trimo-yml.ts";

// Anybody may propose a trimo.yml, and a recursive parser ends its process at a deep one.

/** Some only look deep: the parser does not nest them. */
const shapes: [string, (depth: number) => string, isDeep?: boolean][] = [
  [
    "lists, then maps",
    (n) => `- ${"[".repeat(n)}${"]".repeat(n)}\n- ${"{".repeat(n)}${"}".repeat(n)}`,
  ],
  ["open lists", (n) => "[".repeat(n)],
  ["maps in lists", (n) => "[{a: ".repeat(n)],
  ["a list a line", (n) => "[\n".repeat(n)],
  ["dashes", (n) => "- ".repeat(n)],
  ["questions", (n) => "? ".repeat(n)],
  ["dashes behind a key", (n) => `a: ${"- ".repeat(n)}`, false],
  ["dashes behind a marker", (n) => `--- ${"- ".repeat(n)}`, false],
  ["dashes behind another line's end", (n) => `- x\r${"- ".repeat(n)}`, false],
  ["keys behind questions", (n) => "? a:  ".repeat(n)],
  ["lists whose ends are quoted", (n) => '["]",'.repeat(n)],
  ["lists whose ends are quoted otherwise", (n) => `['\\]',`.repeat(n)],
  ["lists whose ends are comments", (n) => "[ #]\n".repeat(n)],
  ["empty keys", (n) => '"": '.repeat(n)],
  ["quoted keys", (n) => '"a": '.repeat(n)],
  [
    "a stair of keys",
    (n) =>
      Array.from(
        { length: Math.min(n, 99) },
        (_, i) => `${" ".repeat(i)}${'"": '.repeat(35)}`,
      ).join("\n"),
  ],
  ["dashes with anchors", (n) => "- &a ".repeat(n), false],
  [
    "steps of a stair",
    (n) => Array.from({ length: Math.min(n, 350) }, (_, i) => `${" ".repeat(i)}a:`).join("\n"),
  ],
];

test.each(shapes)("%s, however deep, are a mistake with a line", (_name, shape, isDeep = true) => {
  for (const depth of [1_000, 3_000, 10_000, 30_000]) {
    const { config, mistakes } = parseTrimoYml(shape(depth).slice(0, 16_000));
    expect(config).toEqual({});
    expect(mistakes.length).toBeGreaterThan(0);
    if (isDeep) expect(mistakes).toEqual([{ line: expect.any(Number), text: "nested too deep" }]);
  }
});

test("what real files have is not too deep", () => {
  const lines = [
    "# - - - - - - - - - - - - - - - - - - - - - - - -",
    "agent: [claude, codex]",
    "verify:",
    `  - "test ${"[ -e x ] && ".repeat(40)}true"`,
    "  - |",
    "    first",
    `    ${" ".repeat(80)}deeply indented words`,
    ...Array.from({ length: 33 }, () => "    grep '\\[' file"),
    `# ${" ".repeat(70)}a comment on the right`,
    "egress: { allow: ['*.example.com:443'] }",
  ];
  expect(parseTrimoYml(lines.join("\n")).mistakes).toEqual([]);
});
