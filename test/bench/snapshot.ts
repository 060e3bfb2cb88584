import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { baseImage } from "../../daemon/images/base.ts";
import { GitRepositories } from "../../daemon/repository/git-repositories.ts";
import { cpuMsOf, pauseAfter } from "../../images/base/snapshots.ts";

// What a snapshot costs a run: the script as it is in a container, against a real gate over HTTP, on checkouts
// of so many files; beside it `git status` in the same checkout, which any look at the tree must cost. CPU in
// milliseconds, and the part of one core that it takes at the pace that follows from it.

const run = promisify(execFile);
const sizes = [100, 3_000, 20_000];
const branch = "trimo/1-x";
const median = (all: number[]) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)] ?? 0;

type Row = { files: number; statusMs: number; idleMs: number; changedMs: number; everyMs: number };

export async function benchSnapshot(rounds: number) {
  const rows: Row[] = [];
  for (const files of sizes) {
    process.stderr.write(`· ${files} files, ${rounds} rounds\n`);
    rows.push(await measure(files, rounds));
  }
  const told = rows.map(({ files, ...ms }) => ({
    files,
    "git status": ms.statusMs.toFixed(0),
    "nothing changed": ms.idleMs.toFixed(0),
    "a file changed": ms.changedMs.toFixed(0),
    "next after (s)": (ms.everyMs / 1_000).toFixed(0),
    "% of a core": ((100 * ms.changedMs) / ms.everyMs).toFixed(2),
  }));
  console.table(told);
  process.stdout.write(`${JSON.stringify({ bench: "snapshot", rows })}\n`);
}

async function measure(files: number, rounds: number): Promise<Row> {
  const folder = mkdtempSync(join(tmpdir(), "trimo-bench-"));
  const remote = join(folder, "remote/acme/app.git");
  const workspace = join(folder, "workspace");
  await run("git", ["init", "-q", "--bare", "-b", "trunk", remote]);
  await run("git", ["init", "-q", "-b", "trunk", workspace]);
  const inWork = async (...args: string[]) => await run("git", ["-C", workspace, ...args]);
  for (let index = 0; index < files; index++) {
    const at = join(workspace, `folder${index % 200}`);
    mkdirSync(at, { recursive: true });
    writeFileSync(join(at, `file${index}.ts`), `export const value = ${index};\n`.repeat(40));
  }
  await inWork("add", "-A");
  await inWork("config", "gc.auto", "0");
  await inWork("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "Begin");
  await inWork("repack", "-adq");
  await inWork("push", "-q", remote, `HEAD:refs/heads/${branch}`, "HEAD:trunk");
  const repositories = new GitRepositories(join(folder, "data"), join(folder, "remote"));
  const wanted = { repository: "acme/app", branch, token: "t" };
  const fetched = await repositories.fetch(wanted, new AbortController().signal);
  const named = { folder: join(folder, "gate.git"), repository: "acme/app", branch };
  const gate = await repositories.makeGate(named, fetched.folder, fetched.branchSha ?? "");
  const server = createServer((request, response) => gate.serve(request, response, () => {}));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await run("chown", ["-R", "1000:1000", workspace]);
  const mount = `${workspace}:/workspace`;
  const start = [
    "run",
    "-d",
    "--network=host",
    "-v",
    mount,
    "--entrypoint=sleep",
    baseImage,
    "900",
  ];
  const id = (await run("docker", start)).stdout.trim();
  const inside = async (command: string) =>
    (await run("docker", ["exec", "-u", "1000", "-w", "/workspace", id, "bash", "-c", command]))
      .stdout;
  const script = `bash /opt/trimo/snapshot.sh /tmp/own ${host}/repository.git ${host}/snapshot.git ${branch} a a@b 97280`;
  try {
    await inside(
      "git update-index -q --refresh; mkdir /tmp/own; cp .git/index /tmp/own/index.trimo",
    );
    await inside(script);
    const [status, idle, changed]: [number[], number[], number[]] = [[], [], []];
    for (let round = 0; round < rounds; round++) {
      await inside(`echo ${round} > folder0/changed.ts`);
      changed.push(cpuMsOf(await inside(script)));
      idle.push(cpuMsOf(await inside(script)));
      status.push(cpuMsOf(await inside("git status --porcelain > /dev/null; times")));
    }
    const changedMs = median(changed);
    const everyMs = pauseAfter(changedMs, 1, 0);
    return { files, statusMs: median(status), idleMs: median(idle), changedMs, everyMs };
  } finally {
    await run("docker", ["rm", "-f", id]);
    server.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
