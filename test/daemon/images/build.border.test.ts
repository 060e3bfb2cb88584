import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { connectDocker } from "../../../daemon/docker/docker-engine.ts";
import type { DockerError, Engine } from "../../../daemon/docker/engine.ts";
import { BuildError, buildImage } from "../../../daemon/images/build.ts";

// What an engine may answer while it builds, over real HTTP; the real one is met in images.way.test.ts.

let engine: Server;
let docker: Engine;
let answer: (response: ServerResponse) => void;
let removed: string[] = [];
let closed = false;

beforeAll(async () => {
  engine = createServer((request, response) => {
    const url = request.url ?? "";
    if (request.method === "DELETE") removed.push(url);
    if (url.startsWith("/build")) {
      request.resume();
      response.on("close", () => {
        closed = true;
      });
      response.writeHead(200, { "content-type": "application/json" });
      return answer(response);
    }
    response.writeHead(404, { "content-type": "application/json" }).end('{"message":"none"}');
  });
  await new Promise<void>((resolve) => engine.listen(0, "127.0.0.1", resolve));
  process.env.DOCKER_HOST = `tcp://127.0.0.1:${(engine.address() as AddressInfo).port}`;
  docker = connectDocker();
  delete process.env.DOCKER_HOST;
});
afterAll(() => engine.close());
beforeEach(() => {
  removed = [];
  closed = false;
});

const lines = (...events: object[]) =>
  events.map((event) => `${JSON.stringify(event)}\r\n`).join("");
const stream = (text: string) => ({ stream: text });
const steps: string[] = [];
const kept: string[] = [];
async function build(signal = new AbortController().signal) {
  steps.length = 0;
  kept.length = 0;
  const recipe = {
    tag: "trimo/x:1",
    dockerfile: "Dockerfile",
    text: "# one\nFROM a\n\nRUN make \\\n  all\n",
    labels: {},
    args: {},
    platform: null,
    fresh: false,
    limits: null,
  };
  const tell = ({ step, steps: all, text }: { step: number; steps: number; text: string }) =>
    steps.push(`${step}/${all} ${text}`);
  return await buildImage(docker, Readable.from(["tar"]), recipe, tell, signal, (layer) =>
    kept.push(layer),
  );
}
const begun = lines(
  stream("Step 1/3 : FROM a\n"),
  stream(" ---> 0123456789ab\n"),
  stream("Step 2/3 : RUN make   all\n"),
);

test("steps are told as the Dockerfile counts them, and the image's id is the answer", async () => {
  answer = (response) =>
    response.end(
      begun +
        lines(
          stream(" ---> Using cache\n"),
          stream(" ---> ba9876543210\n"),
          stream("Step 3/3 : LABEL x=1\n"),
          { aux: { ID: "sha256:abc" } },
          stream("Successfully built abc\n"),
        ),
    );
  expect(await build()).toEqual({ id: "sha256:abc", steps: 2, cached: 1 });
  expect(steps).toEqual(["1/2 FROM a", "2/2 RUN make   all"]);
});

test("a step that fails is named with its line, its output without colours, and the engine's words", async () => {
  answer = (response) =>
    response.end(
      begun +
        lines(stream("\u001b[91mno rule\u001b[0m\n"), { error: "returned a non-zero code: 2" }),
    );
  const error = await build().catch((caught) => caught);
  expect(error).toBeInstanceOf(BuildError);
  expect(error.message).toBe(
    "Dockerfile line 4, step 2 of 2: RUN make   all\nno rule\nreturned a non-zero code: 2",
  );
  // What it stands on is not its own to remove later.
  expect(kept).toEqual([]);
});

test("a full disk is no fault of the Dockerfile's", async () => {
  answer = (response) =>
    response.end(begun + lines({ error: "write /x: no space left on device" }));
  await expect(build()).rejects.toMatchObject({ kind: "disk_full" } satisfies Partial<DockerError>);
});

test.each([
  ["ends its answer in the middle", (response: ServerResponse) => response.end(begun)],
  [
    "breaks the connection",
    (response: ServerResponse) => {
      response.write(begun);
      setTimeout(() => response.destroy(), 20);
    },
  ],
])("an engine that %s is away", async (_what, what) => {
  answer = what;
  await expect(build()).rejects.toMatchObject({ kind: "unavailable" });
});

test("what nobody waits for is ended at the engine too", async () => {
  const stop = new AbortController();
  answer = (response) => {
    response.write(begun + lines(stream(" ---> ba9876543210\n")));
    setTimeout(() => stop.abort(new Error("nobody waits")), 20);
  };
  await expect(build(stop.signal)).rejects.toThrow("nobody waits");
  await expect.poll(() => closed).toBe(true);
  expect(removed).toEqual([]);
});
