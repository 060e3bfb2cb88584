import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Engine } from "../docker/engine.ts";
import { baseImage, proxyArgs, sourceLabel } from "./base.ts";
import { buildImage } from "./build.ts";
import { folderContext } from "./context.ts";

/** The agents that `install-agent` of the base knows. */
export const installable = ["claude", "codex", "opencode", "gemini", "qwen"] as const;

/** The name of the image with these agents: `trimo/claude:bookworm`, `trimo/claude-codex:bookworm`. */
export const agentImage = (agents: string[]): string =>
  `trimo/${agents.map((agent) => agent.split("@")[0]).join("-")}:bookworm`;

type How = { tag?: string | undefined; platform?: string | undefined; fresh?: boolean };

/**
 * Builds the base with these agents, each with an optional `@VERSION`, and gives its name; `say` hears each
 * step.
 *
 * @throws BuildError; DockerError.
 */
export async function buildAgentImage(
  engine: Engine,
  agents: string[],
  how: How,
  say: (line: string) => void,
  signal: AbortSignal,
): Promise<string> {
  const base = await engine.image(baseImage);
  const folder = await mkdtemp(join(tmpdir(), "trimo-agents-"));
  const lines = agents.map((agent) => `RUN /opt/trimo/sbin/install-agent ${agent}`);
  try {
    await writeFile(join(folder, "Dockerfile"), [`FROM ${baseImage}`, ...lines, ""].join("\n"));
    const context = await folderContext(folder, "Dockerfile");
    const tag = how.tag ?? agentImage(agents);
    const recipe = {
      tag,
      dockerfile: "Dockerfile",
      text: context.text,
      labels: { [sourceLabel]: base?.labels[sourceLabel] ?? "" },
      args: proxyArgs(),
      platform: how.platform ?? null,
      // What `@latest` was the last time is not what it is.
      fresh: how.fresh ?? agents.some((agent) => agent.endsWith("@latest")),
      limits: null,
    };
    await buildImage(engine, context.tar(), recipe, ({ text }) => say(text.slice(0, 120)), signal);
    return tag;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
