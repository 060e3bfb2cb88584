import { expect, test } from "vitest";
import { redact } from "../../daemon/redact.ts";
import { LineReader } from "../../daemon/run/line-reader.ts";

const secrets = [
  "ghs_abcdefgh12345678",
  "ghs_abcdefgh",
  "-----BEGIN KEY-----\nMIIEabcdef\n-----END KEY-----",
];
const reader = () => new LineReader(() => secrets, 0);

test("every secret is masked, the longer of two first, and each line of one with many", () => {
  expect(redact("x ghs_abcdefgh12345678 y", secrets)).toBe("x *** y");
  expect(redact("MIIEabcdef", secrets)).toBe("***");
  expect(redact("nothing", secrets)).toBe("nothing");
});

test("what looks like a credential is masked, whoever's it is", () => {
  for (const shape of [
    "ghp_0123456789abcdefghij01",
    "github_pat_0123456789abcdefghij",
    "AKIAABCDEFGHIJKLMNOP",
    "sk-ant-0123456789abcdefghij",
  ])
    expect(redact(`key=${shape};`, [])).toBe("key=***;");
});

test("a secret cut by a chunk's edge, anywhere, is masked", () => {
  const bytes = Buffer.from("before ghs_abcdefgh12345678 after\nnext\n");
  for (let cut = 0; cut <= bytes.length; cut++) {
    const lines = reader();
    const got = [...lines.push(bytes.subarray(0, cut)), ...lines.push(bytes.subarray(cut))];
    expect(got.map((line) => line.text)).toEqual(["before *** after", "next"]);
    expect(got.map((line) => line.end)).toEqual([34, 39]);
  }
});

test("a line of a megabyte comes in pieces, and a secret at a piece's edge is masked", () => {
  const text = `${"x".repeat(65_530)}ghs_abcdefgh12345678${"y".repeat(1_000_000)}\n`;
  const lines = reader();
  const got: string[] = [];
  for (let at = 0; at < text.length; at += 7_000)
    got.push(...lines.push(Buffer.from(text.slice(at, at + 7_000))).map((line) => line.text));
  const all = got.join("");
  expect(all).not.toContain("ghs_");
  expect(all).toContain("x***y");
  expect(all.length).toBe(65_530 + 3 + 1_000_000);
  for (const piece of got) expect(piece.length).toBeLessThan(200_000);
});

test("invalid UTF-8 and half a character at an edge do no harm", () => {
  const lines = reader();
  const euro = Buffer.from("€\n");
  const got = [
    ...lines.push(euro.subarray(0, 1)),
    ...lines.push(euro.subarray(1)),
    ...lines.push(Buffer.from([0xff, 0xfe, 10])),
  ];
  expect(got.map((line) => line.text)).toEqual(["€", "\ufffd\ufffd"]);
});

test("what is left without a newline is given at the end", () => {
  const lines = reader();
  expect(lines.push(Buffer.from("half"))).toEqual([]);
  expect(lines.flush().map((line) => line.text)).toEqual(["half"]);
});
