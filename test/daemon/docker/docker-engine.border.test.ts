import { createServer, type RequestListener } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { expect, test } from "vitest";
import { type Clock, systemClock } from "../../../app/protocol/clock.ts";
import { connectDocker } from "../../../daemon/docker/docker-engine.ts";
import { type Endpoints, openGateway } from "../../../daemon/gateway/gateway.ts";
import { until } from "../../support/rig.ts";

/** An engine that answers as told, over real HTTP. */
async function answering(answer: RequestListener, clock?: Clock) {
  const server = createServer((request, response) => {
    request.resume();
    answer(request, response);
  });
  server.keepAliveTimeout = 600_000;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  process.env.DOCKER_HOST = `tcp://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const engine = connectDocker(clock);
  delete process.env.DOCKER_HOST;
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { server, engine, close };
}

const breakingOff: RequestListener = (_request, response) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": "100" });
  response.write('{"Half":');
  setTimeout(() => response.destroy(), 50);
};

test("an exec that the engine refuses leaves no connection behind", async () => {
  const { server, engine, close } = await answering((request, response) => {
    const started = request.url?.endsWith("/start");
    // As Docker does with a container that has just ended.
    const connection = started ? "keep-alive" : "close";
    response.writeHead(started ? 500 : 201, { "content-type": "application/json", connection });
    response.end(started ? '{"message":"Container 1 is not running"}' : '{"Id":"exec-1"}');
  });
  const open = () =>
    new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count)));

  await expect(engine.exec("1", ["true"])).rejects.toThrow("not running");
  await until("the connection's end", async () => (await open()) === 0, 15_000);
  close();
});

test("an exec whose connection breaks before its gateway is opened ends nothing, and the gateway is closed", async () => {
  const { server, engine, close } = await answering((_request, response) => {
    response.writeHead(201, { "content-type": "application/json" });
    response.end('{"Id":"exec-1"}');
  });
  const broken = new Promise<void>((resolve) => {
    server.on("upgrade", (_request, socket) => {
      socket.write("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
      socket.on("close", resolve);
      setTimeout(() => (socket as Socket).resetAndDestroy(), 50);
    });
  });
  const carrier = await engine.exec("1", ["true"]);
  await broken;
  await until("that it is known here", () => carrier.input.destroyed);
  const rules = { mode: "locked" as const, machine: [], repository: [], forge: "github.com" };
  const on = { pushed() {}, connection() {} };
  const gateway = openGateway(carrier, {} as Endpoints, rules, on);
  await gateway.closed;
  gateway.close();
  close();
});

test("an engine whose answers break off after their head is away, and is not waited for without end", async () => {
  const soon = (_ms: number, signal: AbortSignal) => systemClock.sleep(300, signal);
  const { engine, close } = await answering(breakingOff, { ...systemClock, sleep: soon });
  const questions = {
    ping: engine.ping(),
    version: engine.version(),
    folder: engine.folder(),
    stateOf: engine.stateOf("1"),
    logsOf: engine.logsOf("1"),
    exec: engine.exec("1", ["true"]),
    askToStop: engine.askToStop("1"),
    kill: engine.kill("1"),
    image: engine.image("x"),
    ownedContainers: engine.ownedContainers("a=b"),
    ownedVolumes: engine.ownedVolumes("a=b"),
    taggedImages: engine.taggedImages("a=b"),
    layersOf: engine.layersOf("x"),
    removeImage: engine.removeImage("x"),
  };
  const names = Object.keys(questions);
  const answers = await Promise.allSettled(Object.values(questions));
  for (const [i, answer] of answers.entries())
    expect(answer, names[i]).toMatchObject({ reason: { kind: "unavailable" } });
  close();
});

test("a making or removing whose answer breaks off is away as well", async () => {
  const soon = (_ms: number, signal: AbortSignal) => systemClock.sleep(20, signal);
  const { engine, close } = await answering(breakingOff, { ...systemClock, sleep: soon });
  const request = {
    run: "r",
    attempt: 1,
    daemon: "d",
    image: "x",
    cpus: 1,
    memoryBytes: 2 ** 29,
    pids: 100,
  };
  for (const work of [
    () => engine.startContainer(request),
    () => engine.removeContainer("1"),
    () => engine.removeVolume("v"),
  ])
    await expect(work()).rejects.toMatchObject({ kind: "unavailable" });
  close();
});
