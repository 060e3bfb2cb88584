import { type Carrier, type Container, openExec } from "../docker/container.ts";

/** The container's end of the tunnel, as a process of it that has no right at all. */
export function openTunnel(container: Container): Promise<Carrier> {
  return openExec(container, ["/opt/trimo/node/bin/node", "/opt/trimo/tunnel.js"]);
}
