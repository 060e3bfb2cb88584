import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { createNodeMiddleware, Probot } from "probot";

// The peer of `npm run bench -- webhook`: Probot as its README has it, with a handler that does nothing.

const probot = new Probot({
  appId: 1,
  privateKey: process.env.PRIVATE_KEY ?? "",
  secret: process.env.WEBHOOK_SECRET ?? "",
  logLevel: "fatal",
});
const middleware = await createNodeMiddleware((app) => void app.on("issues", async () => {}), {
  probot,
  webhooksPath: "/api/github/webhooks",
});
const server = createServer((request, response) => {
  middleware(request, response, () => response.writeHead(404).end());
});
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`http://127.0.0.1:${(server.address() as AddressInfo).port}\n`);
});
