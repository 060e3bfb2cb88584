#!/usr/bin/env node
import { Command } from "commander";

const program = new Command("trimo")
  .description("Runs coding agents from GitHub issues on your own machines, each in a container.")
  .showHelpAfterError("(trimo --help lists the commands)");

program
  .command("app")
  .description("the GitHub App, the daemons' API and the dashboard on one port")
  .action(async () => (await import("./app.ts")).runApp());

program
  .command("enroll <name>")
  .description("prints a daemon's token, once; run it on the app's machine")
  .option("--account <login>", "serve the repositories of this account only")
  .option("--again", "a new token for a daemon that is enrolled; the one it had is refused")
  .action(async (name: string, options: { account?: string; again?: boolean }) =>
    (await import("./machines.ts")).runEnroll(name, options.account ?? null, !!options.again),
  );

program
  .command("machines")
  .description("lists the enrolled daemons; run it on the app's machine")
  .option("--json", "as JSON")
  .action(async (options: { json?: boolean }) =>
    (await import("./machines.ts")).runMachines(options),
  );

program
  .command("revoke <name>")
  .description("takes a daemon's token back for good; run it on the app's machine")
  .action(async (name: string) => (await import("./machines.ts")).runRevoke(name));

program
  .command("daemon")
  .description("claims runs and executes them in containers on this machine")
  .option("--config <file>", "daemon.yml")
  .option("--server <url>", "the app")
  .option("--token-file <file>", "holds the token that `trimo enroll` printed")
  .option("--data <dir>", "mirrors, gates and transcripts")
  .option("--slots <n>", "containers at once")
  .action(async (options: Record<string, string>) =>
    (await import("./daemon.ts")).runDaemon(options),
  );

program
  .command("logs <run>")
  .description("prints all that a run's agent printed; the run's id is in its page's address")
  .option("--data <dir>", "the daemon's --data")
  .action(async (run: string, options: { data?: string }) =>
    (await import("./logs.ts")).runLogs(run, options.data),
  );

program
  .command("backup")
  .description("copies the app's database to a new file, while the app is at work")
  .argument("<file>")
  .action(async (file: string) => await (await import("./backup.ts")).runBackup(file));

program
  .command("kept")
  .description("lists what runs left on this machine that is nowhere else, and how to get it")
  .option("--push", "pushes kept commits now; a running daemon does so each hour")
  .option("--config <file>", "daemon.yml, for --push")
  .option("--server <url>", "the app, for --push")
  .option("--token-file <file>", "holds the token that `trimo enroll` printed, for --push")
  .option("--data <dir>", "the daemon's --data")
  .option("--json", "as JSON")
  .action(async (options) => await (await import("./kept.ts")).runKept(options));

program
  .command("doctor")
  .description("says what is missing on this machine, and how to fix it")
  .option("--config <file>", "daemon.yml")
  .option("--server <url>", "the app")
  .option("--token-file <file>", "holds the token that `trimo enroll` printed")
  .option("--agent <name>", "proves one of daemon.yml's agents by a tiny run")
  .option("--prompt <text>", "what the tiny run is asked")
  .option("--verbose", "all that the agent printed, on stderr")
  .option("--json", "the result as JSON")
  .action(async (options) => (await import("./doctor.ts")).runDoctor(options));

const image = program.command("image").description("development images");
image
  .command("build [dir]")
  .description("builds a project's image, or without DIR the base, trimo/base:bookworm")
  .option("-t, --tag <image>", "its name; trimo/DIR:dev where none is given")
  .option("-f, --file <dockerfile>", "DIR/.trimo/Dockerfile or DIR/Dockerfile where none is given")
  .option(
    "--platform <platform>",
    "linux/amd64, linux/arm64; this engine's own where none is given",
  )
  .option(
    "--agent <names>",
    "the base with agents: claude, codex, opencode, gemini, qwen; a comma between",
  )
  .option("--no-cache", "every step anew")
  .option("--json", "the result as JSON")
  .action(async (dir: string | undefined, options) =>
    (await import("./image.ts")).runImageBuild(dir, options),
  );
image
  .command("init [dir]")
  .description("writes Dockerfile, preboot.sh and trimo.yml for the repository in DIR")
  .option("--force", "write over what is there")
  .option("--json", "the result as JSON")
  .action(async (dir: string | undefined, options) =>
    (await import("./image-init.ts")).runImageInit(dir, options),
  );
image
  .command("check <image>")
  .description("starts an image as a run would, and says what is wrong with it and how to fix it")
  .option("--preboot-seconds <n>", "what preboot may take", "300")
  .option("--json", "the result as JSON")
  .action(async (name: string, options) =>
    (await import("./image.ts")).runImageCheck(name, options),
  );

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`✖ ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
