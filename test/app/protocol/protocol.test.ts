import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { z } from "zod";
import { down } from "../../../app/protocol/down.ts";
import { AgentName, BranchName, ImageName, RepositoryName } from "../../../app/protocol/names.ts";
import { isServed, matchesAny } from "../../../app/protocol/pattern.ts";
import { labelIntent } from "../../../app/protocol/trimo-yml.ts";
import { up } from "../../../app/protocol/up.ts";
import { protocolVersion } from "../../../app/protocol/version.ts";

test("a changed wire schema needs a new line in version.ts's history", () => {
  const described = Object.entries({ up, down })
    .flatMap(([way, schemas]) =>
      Object.entries(schemas).map(
        ([name, schema]) => [`${way}.${name}`, z.toJSONSchema(schema as z.ZodType)] as const,
      ),
    )
    .sort(([a], [b]) => a.localeCompare(b));
  const hash = createHash("sha256").update(JSON.stringify(described)).digest("hex").slice(0, 16);
  // One hash a version: add a line for a new version, never change an old one.
  const known: Record<number, string> = {
    1: "b7f3c49dadb3a339",
    2: "372e4fedb08b7764",
    3: "7a3b2b80bc98c3f0",
    4: "27ea1a19c8aa2705",
    5: "8a9eb88a16d685bc",
    6: "fcdcaada6b4a4cd5",
    7: "305f5c5ad1e744d9",
  };
  expect(hash).toBe(known[protocolVersion]);
});

test.each([
  "main",
  "trimo/12-leap-second",
  "feature/x_y.z",
  "a@b",
  "dependabot/npm/x-1.2.3",
])("%s is a branch name", (name) => {
  expect(BranchName.safeParse(name).success).toBe(true);
});
test.each([
  "",
  "-x",
  "--upload-pack=x",
  "/x",
  "x/",
  "a..b",
  "a//b",
  "a/.b",
  "x.lock",
  "a b",
  "a:b",
  "+a",
  "a@{1}",
  "a\nb",
  "x.",
  "~",
  "$(id)",
])("%j is no branch name we pass to git", (name) => {
  expect(BranchName.safeParse(name).success).toBe(false);
});

test.each(["acme/app", "A-b/c.d_e", "x/y-z"])("%s is a repository", (name) => {
  expect(RepositoryName.safeParse(name).success).toBe(true);
});
test.each([
  "acme",
  "acme/../x",
  "acme/..",
  "acme/.",
  "../x/y",
  "a/b/c",
  "-a/b",
  "a b/c",
  "a/b c",
])("%j is no repository", (name) => {
  expect(RepositoryName.safeParse(name).success).toBe(false);
});

test.each([
  "trimo/base:bookworm",
  "localhost:5000/a/b:1",
  `a@sha256:${"0".repeat(64)}`,
])("%s is an image", (name) => {
  expect(ImageName.safeParse(name).success).toBe(true);
});
test.each(["", "-v", "a b", "a;b", "A", "a\n"])("%j is no image", (name) => {
  expect(ImageName.safeParse(name).success).toBe(false);
});

test("an agent's name is short and plain", () => {
  expect(AgentName.safeParse("claude-2").success).toBe(true);
  for (const bad of ["", "Claude", "__proto__", "a".repeat(41), "a b"])
    expect(AgentName.safeParse(bad).success).toBe(false);
});

test("patterns match within one part of a name", () => {
  expect(isServed("acme/app", ["acme/*"])).toBe(true);
  expect(isServed("acme/app", ["*"])).toBe(true);
  expect(isServed("acme/app", ["other/*", "acme/a*"])).toBe(true);
  expect(isServed("acme/app", ["acme"])).toBe(false);
  expect(isServed("evil-acme/app", ["acme/*"])).toBe(false);
  expect(matchesAny("evil/trimo/base", ["trimo/*"])).toBe(false);
  expect(matchesAny("trimoXbase", ["trimo.base"])).toBe(false);
});

test("labels start runs: trimo, trimo:AGENT, or what trimo.yml names instead", () => {
  expect(labelIntent("trimo", {})).toEqual({ agent: null, image: null });
  expect(labelIntent("Trimo:Codex", {})).toEqual({ agent: "codex", image: null });
  expect(labelIntent("bug", {})).toBeNull();
  expect(labelIntent("trimo:", {})).toBeNull();
  const config = { labels: { bot: { agent: "claude" } } };
  expect(labelIntent("BOT", config)).toEqual({ agent: "claude", image: null });
  expect(labelIntent("trimo", config)).toBeNull();
});
