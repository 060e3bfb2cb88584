import { systemClock } from "../app/protocol/clock.ts";
import { failureWords } from "../app/view/failure.ts";
import { sentence } from "../app/view/sentence.ts";
import { count } from "../app/view/units.ts";
import { apiOf } from "../daemon/agent-settings.ts";
import { type Config, type Options, readConfig, SettingsError } from "../daemon/config.ts";
import { daemonLabel } from "../daemon/docker/container-spec.ts";
import { connectDocker } from "../daemon/docker/docker-engine.ts";
import { type Engine, imageLabels } from "../daemon/docker/engine.ts";
import { type Proof, proveAgent } from "../daemon/doctor.ts";
import { createCredential } from "../daemon/gateway/credential.ts";
import { knownIdentity } from "../daemon/identity.ts";
import { baseImage, isBaseCurrent } from "../daemon/images/base.ts";
import { agentImage, installable } from "../daemon/images/with-agents.ts";

type Flags = Options & { agent?: string; prompt?: string; json?: boolean; verbose?: boolean };
type Finding = { ok: boolean; what: string; fix: string | null };

/** Stands where no app is named: that was said already. */
const nowhere = "http://127.0.0.1:9";
const usualPrompt =
  "Create a file HELLO.md that holds one friendly sentence, commit it, and do nothing else.";

/** `trimo doctor`: what is missing on this machine, each says how to fix it; with --agent a tiny run. */
export async function runDoctor(flags: Flags) {
  const findings: Finding[] = [];
  const note = (ok: boolean, what: string, fix: string | null = null) => {
    findings.push({ ok, what, fix });
    if (flags.json) return;
    process.stdout.write(`${ok ? "✔" : "✖"} ${what}\n`);
    if (fix) process.stdout.write(`  → ${fix}\n`);
  };
  const engine = connectDocker();
  const answers = await checkEngine(engine, note);
  const config = readSettings(flags, note);
  if (config) {
    if (answers) await checkStrangers(engine, config, note);
    if (config.server !== nowhere && !flags.agent) await checkApp(config, note);
    const asked = flags.agent ? [flags.agent] : Object.keys(config.agents);
    for (const name of asked) await checkKey(config, name, note);
  }
  let proof: Proof | null = null;
  if (flags.agent && config && answers) proof = await tryAgent(engine, config, flags, note);
  const ok = findings.every((finding) => finding.ok);
  if (flags.json) process.stdout.write(`${JSON.stringify({ ok, findings, proof })}\n`);
  if (!ok) process.exitCode = 1;
}

type Note = (ok: boolean, what: string, fix?: string | null) => void;

async function checkEngine(engine: Engine, note: Note): Promise<boolean> {
  try {
    const { version } = await engine.version();
    note(true, `Docker Engine ${version}`);
  } catch (error) {
    note(
      false,
      `no Docker Engine answers: ${error instanceof Error ? error.message : error}`,
      "Start Docker Desktop, or on Debian/Ubuntu: sudo apt-get install docker.io && sudo systemctl start docker",
    );
    return false;
  }
  if (!(await imageLabels(engine, baseImage)))
    note(false, `${baseImage} is missing`, "trimo image build");
  else if (!(await isBaseCurrent(engine)))
    note(false, `${baseImage} is older than this Trimo`, "trimo image build, then your own images");
  else note(true, `${baseImage} is there`);
  return true;
}

/** Null when daemon.yml cannot be read at all; a missing token is said, and needed for nothing here. */
function readSettings(flags: Flags, note: Note): Config | null {
  try {
    const config = readConfig(flags, process.env);
    note(true, `settings: ${config.slots} slots, agents ${Object.keys(config.agents).join(", ")}`);
    return config;
  } catch (error) {
    if (!(error instanceof SettingsError)) throw error;
    const config = withoutApp(flags);
    // To try an agent no app is needed, nor its token.
    if (config && flags.agent) note(true, `settings, but for an app: ${config.slots} slots`);
    else for (const problem of error.problems) note(false, problem);
    return config;
  }
}

function withoutApp(flags: Flags): Config | null {
  try {
    const { tokenFile: _, ...rest } = flags;
    const env = { TRIMO_SERVER: nowhere, ...process.env, TRIMO_TOKEN: "none" };
    return readConfig(rest, env);
  } catch {
    // More is wrong with it, and said by the caller.
    return null;
  }
}

/** Containers and volumes of a data folder that is not this one: perhaps of one that was lost. */
async function checkStrangers(engine: Engine, { data }: Config, note: Note) {
  const own = knownIdentity(data);
  const of = async (label: string) => ({
    containers: (await engine.ownedContainers(label)).map(({ id }) => id.slice(0, 12)),
    volumes: (await engine.ownedVolumes(label)).map(({ name }) => name),
  });
  const all = await of(daemonLabel);
  const mine = own ? await of(`${daemonLabel}=${own}`) : { containers: [], volumes: [] };
  const containers = all.containers.filter((id) => !mine.containers.includes(id));
  const volumes = all.volumes.filter((name) => !mine.volumes.includes(name));
  if (containers.length + volumes.length === 0) return;
  const commands = [
    ...(containers.length > 0 ? [`docker rm -f ${containers.join(" ")}`] : []),
    ...(volumes.length > 0 ? [`docker volume rm ${volumes.join(" ")}`] : []),
  ];
  const what = `${count(containers.length, "container")} and ${count(volumes.length, "volume")} of runs belong to another data folder than ${data}`;
  note(
    true,
    what,
    `If no other daemon uses this engine, they were left behind: ${commands.join(" && ")}`,
  );
}

async function checkApp({ server }: Config, note: Note) {
  const answer = await fetch(`${server}/healthz`, { signal: AbortSignal.timeout(10_000) }).catch(
    (error) => String(error.cause ?? error),
  );
  if (typeof answer !== "string" && answer.ok) return note(true, `the app answers at ${server}`);
  const how = typeof answer === "string" ? answer : `HTTP ${answer.status}`;
  note(false, `the app does not answer at ${server}: ${how}`, "Is `trimo app` running there?");
}

async function checkKey({ agents }: Config, name: string, note: Note) {
  const settings = Object.hasOwn(agents, name) ? agents[name] : undefined;
  if (!settings?.credential || apiOf(settings) === null) return;
  const key = createCredential(settings.credential, process.env, systemClock, () => {});
  const where = settings.credential.startsWith("command:") ? "its command" : settings.credential;
  try {
    await key.read();
    note(true, `the key of ${name} is found (${where})`);
  } catch (error) {
    note(false, `${name}: ${(error as Error).message}`, `Fix credential: of ${name} in daemon.yml`);
  }
}

async function tryAgent(engine: Engine, config: Config, flags: Flags, note: Note) {
  const name = flags.agent ?? "";
  const settings = Object.hasOwn(config.agents, name) ? config.agents[name] : undefined;
  if (!settings) {
    note(
      false,
      `daemon.yml names no agent "${name}"`,
      `It has ${Object.keys(config.agents).join(", ")}`,
    );
    return null;
  }
  const image = settings.image ?? baseImage;
  if (!(await imageLabels(engine, image))) {
    const kind = installable.find((one) => one === settings.adapter);
    const own = kind && image === agentImage([kind]);
    note(
      false,
      `${image} is missing`,
      own ? `trimo image build --agent ${kind}` : "Build or pull it",
    );
    return null;
  }
  const stop = new AbortController();
  process.once("SIGINT", () => stop.abort());
  const beganAt = Date.now();
  const say = (text: string) => {
    if (!flags.json)
      process.stdout.write(`  ${((Date.now() - beganAt) / 1000).toFixed(2)} s  ${text}\n`);
  };
  if (!flags.json) process.stdout.write(`● a tiny run of ${name} in ${image}\n`);
  const proof = await proveAgent(
    engine,
    config,
    name,
    flags.prompt ?? usualPrompt,
    (event) => {
      const { seq: _, at: __, ...fact } = event;
      if (fact.type !== "output") say(sentence(fact));
    },
    stop.signal,
  );
  const seconds = ((Date.now() - beganAt) / 1000).toFixed(1);
  const failure = proof.end?.failure;
  if (proof.ok && proof.commits.length > 0)
    note(
      true,
      `${name} works: ${proof.commits.length} commit${proof.commits.length === 1 ? "" : "s"} after ${seconds} s`,
    );
  else if (proof.ok) note(true, `${name} works, and made no commit, after ${seconds} s`);
  else
    note(
      false,
      `${name} does not work: ${failure ? `${failureWords[failure.code].title} (${failure.code})` : "it was stopped"}`,
      failure
        ? `${failureWords[failure.code].fix}\n    ${failure.detail.split("\n").slice(-6).join("\n    ")}`
        : null,
    );
  if (flags.verbose) process.stderr.write(proof.transcript);
  return proof;
}
