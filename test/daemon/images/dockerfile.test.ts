import { describe, expect, test } from "vitest";
import { imagesOf, instructionsOf } from "../../../daemon/images/dockerfile.ts";

describe("the instructions of a Dockerfile", () => {
  test("have the line they begin on, past comments, empty lines and continuations", () => {
    const text = "# one\nFROM a\n\nRUN one \\\n  # why\n\n  && two\r\n  # last\nCOPY . /x\n";
    expect(instructionsOf(text)).toEqual([
      { line: 2, text: "FROM a" },
      { line: 4, text: "RUN one && two" },
      { line: 9, text: "COPY . /x" },
    ]);
  });
  test("of an empty one are none", () => {
    expect(instructionsOf("\n# nothing\n")).toEqual([]);
  });
});

describe("the images that a Dockerfile takes from", () => {
  test("are those of FROM and COPY --from, but for its own stages", () => {
    const text = `FROM --platform=linux/amd64 node:22 AS build
FROM trimo/base:bookworm
COPY --from=build /a /a
COPY --from=0 /b /b
COPY --chown=1:1 --from=minio/minio /usr/bin/minio /usr/bin/
RUN --mount=type=bind,from=acme/tools,target=/x true "$HOME" \\
  'quoted'
ENV A="b c" D=\${E}
from build as last
FROM scratch`;
    expect(imagesOf(text)).toEqual({
      images: ["node:22", "trimo/base:bookworm", "minio/minio", "acme/tools"],
      unclear: [],
    });
  });
  test("are also found behind a continuation", () => {
    expect(imagesOf("FROM \\\n  evil/one\n").images).toEqual(["evil/one"]);
    expect(imagesOf("FR\\\nOM evil/two\n").images).toEqual(["evil/two"]);
    expect(imagesOf("RUN echo \\\\\nFROM evil/three\n").images).toEqual(["evil/three"]);
    expect(imagesOf("FROM a\nCOPY --fr\\\nom=evil/four / /\n").images).toContain("evil/four");
    expect(imagesOf("FROM 12345678\n").images).toEqual(["12345678"]);
  });
  test.each([
    ["a variable", "ARG BASE=x\nFROM $BASE"],
    ["a variable in a flag", "FROM a AS b\nCOPY --from=$B /x /x"],
    ["another escape", "# escape=`\nFROM a\nRUN echo \\\nFROM evil"],
    ["another syntax", "#syntax=evil/frontend\nFROM a"],
    ["quotes in a flag", 'FROM a\nCOPY --"from"=evil / /'],
    ["an escape in a flag", "FROM a\nCOPY --f\\rom=evil / /"],
    ["a variable in the platform", "FROM --platform=x$" + '{N:+" trimo/base "} evil'],
    ["ONBUILD", "FROM a\nONBUILD COPY --from=evil / /"],
    ["a here-document", "FROM a\nRUN <<EOF\nFROM evil\nEOF"],
    ["no FROM", "RUN true"],
    ["a form feed behind a backslash", "FROM a\nRUN echo \\\f\nFROM evil"],
    ["an odd space before FROM", "\u0085FROM evil"],
    ["a lone carriage return", "FROM a\rFROM evil"],
    ["a word that is no instruction", "FROM a\nFORM evil"],
  ])("are unclear with %s", (_what, text) => {
    expect(imagesOf(text).unclear).not.toEqual([]);
  });
});
