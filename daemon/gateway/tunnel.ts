import type { Carrier, Engine } from "../docker/engine.ts";

/** Opens the container's end of the tunnel, as a process of it that has no right at all. */
export function openTunnel(engine: Engine, container: string): Promise<Carrier> {
  return engine.exec(container, ["/opt/trimo/node/bin/node", "/opt/trimo/tunnel.js"]);
}
