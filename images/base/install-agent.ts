import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { cpu, exactly, latest, unpack, type Version } from "./registry.ts";

// For Dockerfiles: `RUN install-agent claude` puts an agent below /opt/agents and its command into
// /usr/local/bin, from packages of the npm registry. `install-agent claude@2.1.330` and `…@latest` name
// another version than the one that Trimo was tried with. Those that need Node use Trimo's private one:
// the project's stays the only `node` on the PATH.

type Agent = {
  /** The package that says which version is the newest. */
  name: string;
  tried: string;
  /** Which package and version of it holds the program for a processor. */
  from(version: string, cpu: string): [name: string, version: string];
  /** What of it is unpacked. Empty: all. */
  members(cpu: string): string[];
  /** The program, below the unpacked folder; one that ends in .js or .mjs runs on Node. */
  program(cpu: string): string;
  /** SHA-512 of the archives of the version that was tried, by processor; `any` where there is one. */
  integrity: Record<string, string>;
};

const triple = (cpu: string) => `${cpu === "arm64" ? "aarch64" : "x86_64"}-unknown-linux-musl`;
/** opencode's usual build needs AVX2, which older processors and some virtual machines lack. */
const hasAvx2 = () => /\bavx2\b/.test(readFileSync("/proc/cpuinfo", "utf8"));

const agents: Record<string, Agent> = {
  claude: {
    name: "@anthropic-ai/claude-code",
    tried: "2.1.330",
    from: (version, cpu) => [`@anthropic-ai/claude-code-linux-${cpu}`, version],
    members: () => ["package/claude"],
    program: () => "claude",
    integrity: {
      x64: "sha512-9Gn+V7DtJ8M1nztP9CeDVl9g3RtrepI7rOFTyPRRnZe8D6zebIHKmC7OvBauucuAP0X0k85SDN/LPVZyjsGezQ==",
      arm64:
        "sha512-V4yanAY5EA5UpwwRPtjSfqDbNqAlUJeVn3NYZw2AgmRHjdpSsLtHAzbxRXfkAnbjwTXzE0uedjQxUY02ARPcsA==",
    },
  },
  codex: {
    name: "@openai/codex",
    tried: "0.169.0",
    from: (version, cpu) => ["@openai/codex", `${version}-linux-${cpu}`],
    // Without what it has for speech.
    members: (cpu) =>
      ["bin", "codex-path", "codex-package.json", "codex-resources/bwrap"].map(
        (path) => `package/vendor/${triple(cpu)}/${path}`,
      ),
    program: (cpu) => `vendor/${triple(cpu)}/bin/codex`,
    integrity: {
      x64: "sha512-o05NyAOCDygSPRo1yinzxvkRSdmsZyBD9E7mbpmjRanSfM8lypqWtQgEo4XfNkwhuCR2aFu8mlGOsQGFXVbVww==",
      arm64:
        "sha512-NZ/DaQUpcQmxmqee7Z9uC1rzw3GhSbooawcaTe1LN5Yk+WlinUKGdTXJgClRT/9ogQEEM9TWxYzvxPfj5G/xFg==",
    },
  },
  opencode: {
    name: "opencode-ai",
    tried: "1.18.33",
    from: (version, cpu) => [
      cpu === "x64" && !hasAvx2() ? "opencode-linux-x64-baseline" : `opencode-linux-${cpu}`,
      version,
    ],
    members: () => ["package/bin/opencode"],
    program: () => "bin/opencode",
    integrity: {
      "opencode-linux-x64":
        "sha512-q/t/3p2CTxOT9y2kvjesb/LZab2+1eqlhhWA02Be6mjTtmYtNBcBsrI5yDo4Fw7ZSPBW2oyMIGMNRqiKQjiAWw==",
      "opencode-linux-x64-baseline":
        "sha512-1KQGBiiDDeL/VHHbHkOvvFo8Jr97WT5+C1tear+p7IcDTnXgVHXqIjU4O4jM4mHQzykTP2i884FCnW5LDa+zCA==",
    },
  },
  gemini: {
    name: "@google/gemini-cli",
    tried: "0.61.0",
    from: (version) => ["@google/gemini-cli", version],
    members: () => [],
    program: () => "bundle/gemini.js",
    integrity: {
      any: "sha512-dbQ9A0qBtFJNi6XBkHvfZ6Azpn6PNgH/P8h2MZ67RLlX8hSAVjup39CRWqdRxZv7YXIuhrFaytr8y0jKnkoxnQ==",
    },
  },
  qwen: {
    name: "@qwen-code/qwen-code",
    tried: "0.24.4",
    from: (version) => ["@qwen-code/qwen-code", version],
    members: () => [],
    program: () => "cli-entry.js",
    integrity: {
      any: "sha512-pmexy/Nj+BKd3Un1ogqGQE8V4GJn5B6N9PQOrU1GH+lMR29kn6Bgf6YdbZa8hNIoTmAKT1LTPK+P8TibZRPPVg==",
    },
  },
};

const prefix = process.env.PREFIX ?? "";

try {
  if (process.argv.length < 3)
    throw new Error(
      `which one? install-agent ${Object.keys(agents).join(" | ")}, each with @VERSION`,
    );
  for (const wanted of process.argv.slice(2)) await install(wanted);
} catch (error) {
  process.stderr.write(
    `install-agent: ${error instanceof Error ? error.message : String(error)}\n`,
  );
  process.exitCode = 1;
}

async function install(wanted: string) {
  const [name = "", asked = ""] = wanted.split("@");
  const agent = Object.hasOwn(agents, name) ? agents[name] : undefined;
  if (!agent)
    throw new Error(`there is no agent "${name}" here, only ${Object.keys(agents).join(", ")}`);
  if (asked !== "" && asked !== "latest" && !/^\d[\w.+-]*$/.test(asked))
    throw new Error(`"${asked}" is no version; ${name}@${agent.tried}, or ${name}@latest`);
  const version = asked === "latest" ? await latest(agent.name) : asked || agent.tried;
  const [source, exact] = agent.from(version, cpu());
  const found = await exactly(source, exact);
  const folder = join(prefix, "/opt/agents", name);
  rmSync(folder, { recursive: true, force: true });
  await unpack(known(agent, version, source, found), folder, agent.members(cpu()));
  link(name, join(folder, agent.program(cpu())));
  process.stdout.write(`${name} ${version} is in ${folder}\n`);
}

/** Of a version that was tried, the archive is the one that was tried, whatever the registry says. */
function known(agent: Agent, version: string, source: string, found: Version): Version {
  const { integrity } = agent;
  const own = integrity[source] ?? integrity[cpu()] ?? integrity.any;
  if (version !== agent.tried || !own) return found;
  return { ...found, dist: { ...found.dist, integrity: own } };
}

function link(name: string, program: string) {
  const bin = join(prefix, "/usr/local/bin");
  mkdirSync(bin, { recursive: true });
  const command = join(bin, name);
  rmSync(command, { force: true });
  if (!/\.m?js$/.test(program)) {
    chmodSync(program, 0o755);
    symlinkSync(program, command);
    return;
  }
  const script = `#!/bin/sh\nexec /opt/trimo/node/bin/node --no-warnings ${program} "$@"\n`;
  writeFileSync(command, script, { mode: 0o755 });
}
