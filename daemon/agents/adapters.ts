import type { Agent, Api } from "../agent-settings.ts";
import { acpAdapter } from "./acp.ts";
import { type Adapter, type Launch, placeholder } from "./adapter.ts";
import { claudeAdapter } from "./claude.ts";
import { codexAdapter } from "./codex.ts";
import { opencodeAdapter } from "./opencode.ts";
import { scriptAdapter } from "./script.ts";

/** The adapter that an agent's settings name. */
export function adapterOf(agent: Agent): Adapter {
  switch (agent.adapter) {
    case "claude":
      return claudeAdapter;
    case "codex":
      return codexAdapter;
    case "opencode":
      return opencodeAdapter;
    case "acp":
      return acpAdapter(agent.command, agent.session_files, (launch) =>
        modelEnv(agent.api, launch),
      );
    case "script":
      return scriptAdapter(agent.command, agent.lines, agent.session_files, (launch) =>
        modelEnv(agent.api, launch),
      );
  }
}

/** By what variables programs of each kind are told where their model is. */
function modelEnv(api: Api | undefined, { gateway, model }: Launch): Record<string, string> {
  if (!gateway || !api) return {};
  const named = (name: string): Record<string, string> => (model ? { [name]: model } : {});
  const own = { TRIMO_MODEL_URL: gateway, ...named("TRIMO_MODEL") };
  switch (api) {
    case "anthropic":
      return {
        ...own,
        ANTHROPIC_BASE_URL: gateway,
        ANTHROPIC_API_KEY: placeholder,
        ...named("ANTHROPIC_MODEL"),
      };
    case "openai":
      return {
        ...own,
        OPENAI_BASE_URL: `${gateway}/v1`,
        OPENAI_API_KEY: placeholder,
        ...named("OPENAI_MODEL"),
      };
    case "gemini":
      return {
        ...own,
        GOOGLE_GEMINI_BASE_URL: gateway,
        GEMINI_API_KEY: placeholder,
        GEMINI_CLI_TRUST_WORKSPACE: "true",
        ...named("GEMINI_MODEL"),
      };
  }
}
