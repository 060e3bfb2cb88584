import { describe, expect, test } from "vitest";
import { imagesOf, instructionsOf } from "../../daemon/dockerfile.ts";

describe("the instructions of a Dockerfile", () => {
  test("have the line they begin on, past comments, empty lines and continuations", () => {
    const text = "# syntax\nFROM a\n\nRUN one \\\n  # why\n\n  && two\r\n  # last\nCOPY . /x\n";
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
  const of = (text: string) => imagesOf(text).images;
  test("are those of FROM and COPY --from, but for its own stages", () => {
    const text = `FROM --platform=linux/amd64 node:22 AS build
FROM trimo/base:bookworm
COPY --from=build /a /a
COPY --from=0 /b /b
COPY --chown=1:1 --from=minio/minio /usr/bin/minio /usr/bin/
from build as last
FROM scratch`;
    expect(of(text)).toEqual(["node:22", "trimo/base:bookworm", "minio/minio"]);
  });
  test("are also found behind a continuation and in a mount", () => {
    expect(of("FROM \\\n  evil/one\nRUN --mount=type=bind,from=evil/two,target=/x true")).toEqual([
      "evil/one",
      "evil/two",
    ]);
  });
  test("are unclear where a variable names them", () => {
    const { images, unclear } = imagesOf(
      "ARG BASE=x\nFROM $BASE\nFROM a AS b\nCOPY --from=$B /x /x",
    );
    expect(images).toEqual(["a"]);
    expect(unclear.map(({ line }) => line)).toEqual([2, 4]);
  });
});
