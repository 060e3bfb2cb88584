import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import {
  appendFileSync,
  createWriteStream,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { stringify } from "yaml";
import { pathsUnder } from "./files.ts";
import { startStandIn } from "./github/standin.ts";

// The whole of Trimo, real but for GitHub: the app and its daemons as processes of their own, which a
// test may kill, before the stand-in.

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The app's settings in tests that are not about GitHub's pace, or how long it refuses. */
export const quick = { TRIMO_WRITES_PER_MINUTE: "700", TRIMO_PATIENCE_MINUTES: "0.05" };

/** An agent that runs this text in bash. */
export const script = (text: string) => ({
  adapter: "script",
  command: ["bash", "-c", text],
});

export type DaemonYml = Record<string, unknown>;
export type Rig = Awaited<ReturnType<typeof startRig>>;

export type Program = {
  process: ChildProcess;
  output: () => string;
  kill(signal?: NodeJS.Signals): Promise<void>;
};

/** The memory that a process has resident, in MB. */
export function residentMb({ pid }: ChildProcess): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024;
}

export async function startRig(options: {
  repositories?: { fullName: string; source: string | null }[];
  people?: Record<string, "admin" | "push" | "pull" | "triage">;
  githubPort?: number;
  appPort?: number;
  /** The app writes no faster than github.com allows; else ten times as fast, so that tests need not wait. */
  atGithubsPace?: boolean;
  /** `dist`: as an installed Trimo; needs `npm run build`. */
  from?: "sources" | "dist";
}) {
  const folder = mkdtempSync(join(tmpdir(), "trimo-rig-"));
  const github = await startStandIn({
    repositories: options.repositories ?? [{ fullName: "acme/app", source: null }],
    people: options.people ?? { ana: "admin", ben: "push", sam: "pull" },
    port: options.githubPort,
  });
  const trimo =
    options.from === "dist" ? ["dist/bin/trimo.js"] : ["--import", "tsx", "bin/trimo.ts"];
  const running = new Set<Program>();
  let appPort = options.appPort ?? 0;
  const appEnv = (): Record<string, string | undefined> => ({
    ...process.env,
    ...github.env,
    ...(options.atGithubsPace ? {} : quick),
    TRIMO_DATA: join(folder, "app"),
    PORT: String(appPort),
    LOG_LEVEL: process.env.TRIMO_TEST_LOG ?? "info",
  });

  function start(name: string, args: string[], env: Record<string, string | undefined>): Program {
    const child = spawn(process.execPath, [...trimo, ...args], {
      cwd: root,
      env: env as NodeJS.ProcessEnv,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const path = join(folder, `${name}.log`);
    appendFileSync(path, "");
    const file = createWriteStream(path, { flags: "a" });
    child.stdout?.pipe(file, { end: false });
    child.stderr?.pipe(file, { end: false });
    const program: Program = {
      process: child,
      output: () => readFileSync(path, "utf8"),
      async kill(signal = "SIGKILL") {
        if (child.exitCode !== null || child.signalCode !== null) return;
        const gone = new Promise((resolve) => child.once("exit", resolve));
        child.kill(signal);
        await gone;
        running.delete(program);
      },
    };
    running.add(program);
    return program;
  }

  return {
    folder,
    github,
    get appUrl() {
      return `http://127.0.0.1:${appPort}`;
    },
    /** Commits a README and `.github/trimo.yml` to a repository's default branch. */
    async configure(fullName: string, trimoYml: string) {
      const { repositories } = github;
      await repositories.commitFile(fullName, "main", "README.md", "# App\n", "Begin");
      const path = ".github/trimo.yml";
      await repositories.commitFile(fullName, "main", path, trimoYml, "Configure Trimo");
    },
    async startApp(more: Record<string, string> = {}): Promise<Program> {
      const app = start("app", ["app"], { ...appEnv(), ...more });
      const url = await new Promise<string>((resolve, reject) => {
        let text = "";
        app.process.stdout?.on("data", (chunk) => {
          text += chunk;
          const found = /^http:\/\/\S+$/m.exec(text)?.[0];
          if (found) resolve(found);
        });
        app.process.once("exit", (code) =>
          reject(new Error(`the app ended with ${code}\n${app.output()}`)),
        );
      });
      // The same port after a restart: GitHub and the daemons know it.
      appPort = Number(new URL(url).port);
      github.deliverTo(url);
      return app;
    },
    enroll(name: string, ...more: string[]): string {
      return execFileSync(process.execPath, [...trimo, "enroll", name, ...more], {
        cwd: root,
        stdio: ["ignore", "pipe", "pipe"],
        env: appEnv() as NodeJS.ProcessEnv,
      })
        .toString()
        .trim();
    },
    /** Starts (or starts again) the daemon `name`, which must be enrolled with `token`. */
    startDaemon(
      name: string,
      token: string,
      yml: DaemonYml,
      more: Record<string, string> = {},
    ): Program {
      const config = join(folder, `${name}.yml`);
      writeFileSync(config, stringify({ github: github.url, ...yml }));
      const env = {
        ...process.env,
        TRIMO_SERVER: `http://127.0.0.1:${appPort}`,
        TRIMO_TOKEN: token,
        TRIMO_DATA: join(folder, name),
        LOG_LEVEL: process.env.TRIMO_TEST_LOG ?? "info",
        ...more,
      };
      return start(name, ["daemon", "--config", config], env);
    },
    /** Runs `trimo …` to its end. Not at once: GitHub's stand-in lives in this very process. */
    async run(...args: string[]): Promise<{ exit: number; output: string; errors: string }> {
      return await new Promise((resolve) => {
        const child = spawn(process.execPath, [...trimo, ...args], { cwd: root });
        let output = "";
        let errors = "";
        child.stdout.on("data", (chunk) => {
          output += chunk;
        });
        child.stderr.on("data", (chunk) => {
          errors += chunk;
        });
        child.on("close", (exit) => resolve({ exit: exit ?? -1, output, errors }));
      });
    },
    async stop() {
      for (const program of [...running]) await program.kill("SIGKILL");
      await github.stop();
      removeLabelled(folder);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** Containers and volumes of this rig's daemons; normally there are none left. */
function removeLabelled(folder: string) {
  for (const identity of identities(folder)) {
    const filter = ["--filter", `label=dev.trimo.daemon=${identity}`];
    const ids = docker("ps", "-aq", ...filter);
    if (ids.length > 0) docker("rm", "-f", ...ids);
    const volumes = docker("volume", "ls", "-q", ...filter);
    if (volumes.length > 0) docker("volume", "rm", "-f", ...volumes);
  }
}

function identities(folder: string): string[] {
  return pathsUnder(folder)
    .filter((path) => /daemon.*\/identity$/.test(path))
    .map((path) => readFileSync(path, "utf8").trim());
}

/** The containers of this rig's daemons that run. */
export function containers({ folder }: { folder: string }): string[] {
  return identities(folder).flatMap((identity) =>
    docker("ps", "-q", "--no-trunc", "--filter", `label=dev.trimo.daemon=${identity}`),
  );
}

/** Everything of Trimo's on the engine that belongs to this rig. */
export function leftovers(rig: Rig): string[] {
  return identities(rig.folder).flatMap((identity) => {
    const filter = ["--filter", `label=dev.trimo.daemon=${identity}`];
    return [...docker("ps", "-aq", ...filter), ...docker("volume", "ls", "-q", ...filter)];
  });
}

export function docker(...args: string[]): string[] {
  return execFileSync("docker", args, { stdio: ["ignore", "pipe", "pipe"], timeout: 120_000 })
    .toString()
    .split("\n")
    .filter(Boolean);
}

/** GitHub's times are whole seconds: what is done from here on is later than what was done before. */
export const nextSecond = () =>
  new Promise((resolve) => setTimeout(resolve, 1_000 - (Date.now() % 1_000) + 5));

/** Looks until `look` gives something; fails with `what` and the rig's logs when it never does. */
export async function until<T>(
  what: string,
  look: () => Promise<T | null | undefined | false> | T | null | undefined | false,
  timeoutMs = 90_000,
): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${timeoutMs / 1000} s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
}
