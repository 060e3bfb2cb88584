import { createServer } from "node:http";
import { PassThrough } from "node:stream";
import { expect, test } from "vitest";
import { Mux, type MuxStream } from "../../images/base/mux.ts";

function pair(onDaemon: (stream: MuxStream) => void) {
  const up = new PassThrough();
  const down = new PassThrough();
  const container = new Mux(down, up, "container", () => {});
  const daemon = new Mux(up, down, "daemon", (_purpose, stream) => onDaemon(stream));
  return { container, daemon, up, down };
}

test("a megabyte goes through and comes back, over many streams at once, each whole", async () => {
  const { container } = pair((stream) => stream.pipe(stream));
  const sizes = [0, 1, 70_000, 1_000_000, 3_000_000];
  const back = await Promise.all(
    sizes.map(async (size, index) => {
      const stream = container.open({ kind: "connection" });
      stream.end(Buffer.alloc(size, index));
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk);
      return Buffer.concat(chunks);
    }),
  );
  expect(back.map((bytes) => bytes.length)).toEqual(sizes);
  for (const [index, bytes] of back.entries())
    expect(bytes.every((byte) => byte === index)).toBe(true);
});

test("a stream nobody reads does not stall its neighbour", async () => {
  const served: MuxStream[] = [];
  const { container } = pair((stream) => {
    served.push(stream);
    if (served.length === 2) stream.pipe(stream);
  });
  const stuck = container.open({ kind: "connection" });
  stuck.write(Buffer.alloc(5_000_000));
  const free = container.open({ kind: "connection" });
  free.end("hello");
  let text = "";
  for await (const chunk of free) text += chunk;
  expect(text).toBe("hello");
  stuck.on("error", () => {});
  stuck.destroy();
});

test("an ordinary HTTP server takes a stream as a connection", async () => {
  const server = createServer((request, response) => response.end(`you asked for ${request.url}`));
  const { container } = pair((stream) => server.emit("connection", stream));
  const stream = container.open({ kind: "connection" });
  stream.write("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  let text = "";
  for await (const chunk of stream) text += chunk;
  expect(text).toContain("200 OK");
  expect(text).toContain("you asked for /x");
});

test("when the pipe ends every stream ends, and a frame that is too large ends the pipe", async () => {
  const { container, up, down } = pair(() => {});
  const stream = container.open({ kind: "connection" });
  const failed = new Promise<Error>((resolve) => stream.on("error", resolve));
  down.end();
  expect((await failed).message).toContain("closed");
  const { daemon, up: broken } = pair(() => {});
  const closed = new Promise((resolve) => broken.on("error", resolve));
  broken.write(Buffer.from([1, 0, 0, 0, 1, 255, 255, 255, 255]));
  await closed;
  expect(daemon.closed).toBe(true);
  up.destroy();
});
