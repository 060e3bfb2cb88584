import { rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";

/** The engine as the daemon sees it, which a test may take away. */
export async function startEngineProxy(path: string) {
  let sockets = new Set<Socket>();
  let server: Server | null = null;
  const start = async () => {
    server = createServer((client) => {
      const upstream = connect("/var/run/docker.sock");
      for (const socket of [client, upstream]) {
        sockets.add(socket);
        socket.on("error", () => {});
        socket.on("close", () => {
          client.destroy();
          upstream.destroy();
          sockets.delete(socket);
        });
      }
      client.pipe(upstream);
      upstream.pipe(client);
    });
    await new Promise<void>((resolve) => server?.listen(path, resolve));
  };
  const stop = async () => {
    const closed = new Promise((resolve) => server?.close(resolve));
    for (const socket of sockets) socket.destroy();
    sockets = new Set();
    await closed;
    rmSync(path, { force: true });
  };
  await start();
  return { start, stop };
}
