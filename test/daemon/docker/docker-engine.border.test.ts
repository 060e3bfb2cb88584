import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
import { systemClock } from "../../../app/protocol/clock.ts";
import { connectDocker } from "../../../daemon/docker/docker-engine.ts";
import { until } from "../../support/rig.ts";

test("an exec that the engine refuses leaves no connection behind", async () => {
  const engine = createServer((request, response) => {
    request.resume();
    const started = request.url?.endsWith("/start");
    // As Docker does with a container that has just ended.
    const connection = started ? "keep-alive" : "close";
    response.writeHead(started ? 500 : 201, { "content-type": "application/json", connection });
    response.end(started ? '{"message":"Container 1 is not running"}' : '{"Id":"exec-1"}');
  });
  engine.keepAliveTimeout = 600_000;
  await new Promise<void>((resolve) => engine.listen(0, "127.0.0.1", resolve));
  process.env.DOCKER_HOST = `tcp://127.0.0.1:${(engine.address() as AddressInfo).port}`;
  const docker = connectDocker();
  delete process.env.DOCKER_HOST;
  const open = () =>
    new Promise<number>((resolve) => engine.getConnections((_error, count) => resolve(count)));

  await expect(docker.exec("1", ["true"])).rejects.toThrow("not running");
  await until("the connection's end", async () => (await open()) === 0, 15_000);
  engine.closeAllConnections();
  engine.close();
});

test("an engine whose answer breaks off after its head is away, and is not waited for without end", async () => {
  const engine = createServer((request, response) => {
    request.resume();
    response.writeHead(200, { "content-type": "application/json", "content-length": "100" });
    response.write('{"Half":');
    setTimeout(() => response.destroy(), 50);
  });
  await new Promise<void>((resolve) => engine.listen(0, "127.0.0.1", resolve));
  process.env.DOCKER_HOST = `tcp://127.0.0.1:${(engine.address() as AddressInfo).port}`;
  const soon = (_ms: number, signal: AbortSignal) => systemClock.sleep(500, signal);
  const docker = connectDocker({ ...systemClock, sleep: soon });
  delete process.env.DOCKER_HOST;
  for (const ask of [docker.stateOf("1"), docker.image("x"), docker.version(), docker.ping()])
    await expect(ask).rejects.toMatchObject({ kind: "unavailable" });
  engine.closeAllConnections();
  engine.close();
});
