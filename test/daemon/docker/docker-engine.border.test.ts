import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { expect, test } from "vitest";
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
