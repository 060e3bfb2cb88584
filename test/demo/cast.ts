import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { connectDocker } from "../../daemon/docker/docker-engine.ts";
import { imageLabels } from "../../daemon/docker/engine.ts";
import { baseImage, sourceLabel } from "../../daemon/images/base.ts";
import { agentImage, buildAgentImage } from "../../daemon/images/with-agents.ts";
import { startModel } from "../support/model/server.ts";
import type { DaemonYml } from "../support/rig.ts";

/** Who does the demo's work, and what they are asked. */
export type Cast = {
  /** The agent's name in daemon.yml. */
  agent: string;
  settings: DaemonYml;
  /** More for the daemon's environment. */
  env: Record<string, string>;
  /** As a line of the demo calls it. */
  who: string;
  title: string;
  body: string;
  correction: string;
  verify: string;
  verified: string;
  stop(): Promise<void>;
};

export const realAgents = ["claude", "codex", "opencode"] as const;
export type RealAgent = (typeof realAgents)[number];

/** Names of the environment that hold a key for it, the first that is set counts. */
const keys: Record<RealAgent, string[]> = {
  claude: ["CLAUDE_CODE_OAUTH_TOKEN", "ANTHROPIC_API_KEY"],
  codex: ["OPENAI_API_KEY"],
  opencode: ["OPENAI_API_KEY"],
};
/** What the scripted model is asked as. */
const scripted: Record<RealAgent, string | undefined> = {
  claude: undefined,
  codex: "gpt-5.2-codex",
  opencode: "scripted",
};

/** A script, so that the demo needs nobody's key. */
export function scriptCast(): Cast {
  const script = readFileSync(fileURLToPath(new URL("agent.sh", import.meta.url)), "utf8");
  return {
    agent: "authors",
    settings: { adapter: "script", command: ["bash", "-c", script] },
    env: {},
    who: "agent (a script, not a model)",
    title: "List everyone who has written this code",
    body: "In a file AUTHORS, from the history.",
    correction: "Say how many commits each of them made",
    verify: `git log --format=%aN | sort -u | while read -r name; do grep -qF -- "$name" AUTHORS || { echo "AUTHORS lacks $name"; exit 1; }; done`,
    verified: "every author is in AUTHORS",
    stop: async () => {},
  };
}

/**
 * A real agent, in an image of its own: before its real service where the environment has a key for it,
 * else before a model that follows a script.
 */
export async function agentCast(agent: RealAgent, say: (line: string) => void): Promise<Cast> {
  const image = await imageFor(agent, say);
  const key = keys[agent].find((name) => process.env[name]);
  const common = {
    agent,
    title: "Say hello",
    verify: "test -s HELLO.md",
    verified: "HELLO.md is there and not empty",
  };
  const settings = { adapter: agent, image };
  if (key)
    return {
      ...common,
      settings: {
        ...settings,
        credential: `env:${key}`,
        ...(agent === "opencode" ? { model: process.env.OPENAI_MODEL ?? "gpt-5.2" } : {}),
      },
      env: {},
      who: `${agent}, with the key in ${key},`,
      body: "Create a file HELLO.md with one friendly sentence, and commit it.",
      correction: "Add one more sentence to HELLO.md, and commit it",
      stop: async () => {},
    };
  const model = await startModel();
  return {
    ...common,
    settings: {
      ...settings,
      credential: "env:TRIMO_DEMO_KEY",
      base_url: agent === "claude" ? model.url : `${model.url}/v1`,
      ...(scripted[agent] ? { model: scripted[agent] } : {}),
    },
    env: { TRIMO_DEMO_KEY: "of-the-demo-and-nothing-else" },
    who: `${agent} (real; its model is a script, since ${keys[agent].join(" or ")} is not set)`,
    body: "[[hello]] Create a file HELLO.md, and commit it.",
    correction: "[[follow]] And one more file",
    stop: () => model.close(),
  };
}

/** Built when it is missing or older than its base. */
async function imageFor(agent: RealAgent, say: (line: string) => void): Promise<string> {
  const engine = connectDocker();
  const image = agentImage([agent]);
  const base = (await imageLabels(engine, baseImage))?.[sourceLabel];
  if ((await imageLabels(engine, image))?.[sourceLabel] === base) return image;
  say(`building ${image}, with ${agent} from npm's package`);
  return await buildAgentImage(engine, [agent], {}, () => {}, new AbortController().signal);
}
