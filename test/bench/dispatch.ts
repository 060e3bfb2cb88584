import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buildDist } from "../support/dist.ts";
import { residentMb, startRig, until } from "../support/rig.ts";

// Signed webhook → the agent's first instruction, cold: a new container each time, app and daemon as
// installed (dist). Beside it, in the same rounds: `docker create` + `start` of the same image with the
// same settings, and `docker run` + a clone of depth 1 inside it.

const image = "trimo/base:bookworm";
const sizes = [100, 2_000];

export async function benchDispatch(rounds: number) {
  buildDist();
  const folder = mkdtempSync(join(tmpdir(), "trimo-bench-"));
  const repositories = sizes.map((files) => ({
    fullName: `bench/files-${files}`,
    source: repository(folder, files),
  }));
  const rig = await startRig({
    repositories,
    people: { ana: "admin" },
    from: "dist",
    atGithubsPace: true,
  });
  try {
    const app = await rig.startApp();
    const first = "date +%s%N > FIRST";
    const daemon = rig.startDaemon("bench", rig.enroll("bench"), {
      slots: 1,
      limits: { memory: "1g", cpus: 2, minutes: 5 },
      agents: { first: { adapter: "script", command: ["bash", "-c", first] } },
    });
    await until("the daemon", () => daemon.output().includes('"connected"'));
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    const memory = {
      app: Math.round(residentMb(app.process)),
      daemon: Math.round(residentMb(daemon.process)),
    };
    const times = new Map<string, number[]>();
    const add = (key: string, ms: number) => times.set(key, [...(times.get(key) ?? []), ms]);
    for (let round = 0; round <= rounds; round++) {
      process.stderr.write(
        round === 0 ? "· warming up (mirrors, page cache)\n" : `· round ${round} of ${rounds}\n`,
      );
      for (const { fullName } of repositories) {
        const floor = createAndStart();
        const peer = runAndClone(rig.github.repositories.folder(fullName));
        const ours = await dispatch(rig, fullName);
        if (round === 0) continue;
        add(`${fullName} floor`, floor);
        add(`${fullName} peer`, peer);
        add(`${fullName} trimo`, ours);
        // The write pace of GitHub's limits is not what is measured: let it refill.
        await new Promise((resolve) => setTimeout(resolve, 12_000));
      }
    }
    print(
      rounds,
      repositories.map((row) => row.fullName),
      times,
      memory,
    );
  } finally {
    await rig.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** A repository of `files` small files in folders of fifty, with twenty commits. */
function repository(folder: string, files: number): string {
  const path = join(folder, `files-${files}`);
  mkdirSync(path);
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", path, "-c", "user.name=b", "-c", "user.email=b@b", ...args]);
  git("init", "-q", "-b", "main");
  for (let i = 0; i < files; i++) {
    const place = join(path, `folder-${Math.floor(i / 50)}`);
    mkdirSync(place, { recursive: true });
    writeFileSync(join(place, `file-${i}.txt`), `line of file ${i}\n`.repeat(40));
  }
  git("add", "-A");
  git("commit", "-qm", "Files");
  for (let i = 0; i < 19; i++) {
    writeFileSync(join(path, "folder-0/file-0.txt"), `change ${i}\n`);
    git("commit", "-qam", `Change ${i}`);
  }
  return path;
}

/** From the label's delivery leaving GitHub to the first instruction's own clock, in milliseconds. */
async function dispatch(
  rig: Awaited<ReturnType<typeof startRig>>,
  fullName: string,
): Promise<number> {
  const { github } = rig;
  const issue = await github.openIssue("ana", fullName, `Dispatch ${Date.now()}`, "");
  await github.label("ana", fullName, issue, "trimo");
  const pull = await until("the pull request's end", async () => {
    const found = (await github.pulls(fullName)).find((row) =>
      row.body?.includes(`Closes #${issue}\n`),
    );
    return found && !found.draft ? found : null;
  });
  const sent = github.state.deliveries.findLast(
    (row) => row.event === "issues" && row.action === "labeled",
  );
  const text = await github.repositories.git(fullName, ["show", `${pull.head.sha}:FIRST`]);
  return Number(BigInt(text.trim()) / 1_000n) / 1_000 - Date.parse(sent?.at ?? "");
}

const settings = [
  "--network",
  "none",
  "--init",
  "--memory",
  "1g",
  "--cpus",
  "2",
  "--pids-limit",
  "1024",
  "--cap-drop",
  "ALL",
  "--security-opt",
  "no-new-privileges",
];

function createAndStart(): number {
  const startedAt = process.hrtime.bigint();
  const id = execFileSync("docker", ["create", ...settings, "--entrypoint", "sleep", image, "60"])
    .toString()
    .trim();
  execFileSync("docker", ["start", id]);
  const ms = Number(process.hrtime.bigint() - startedAt) / 1e6;
  execFileSync("docker", ["rm", "-f", id]);
  return ms;
}

function runAndClone(bare: string): number {
  const startedAt = process.hrtime.bigint();
  const script =
    "git config --global --add safe.directory '*' && git clone -q --depth 1 --no-tags file:///bare /tmp/checkout && cd /tmp/checkout && true";
  execFileSync("docker", [
    "run",
    "--rm",
    ...settings,
    "-v",
    `${bare}:/bare:ro`,
    "--entrypoint",
    "sh",
    image,
    "-c",
    script,
  ]);
  return Number(process.hrtime.bigint() - startedAt) / 1e6;
}

function median(list: number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function print(
  rounds: number,
  names: string[],
  times: Map<string, number[]>,
  memory: { app: number; daemon: number },
) {
  const rows = names.map((name) => {
    const [floor = 0, peer = 0, trimo = 0] = ["floor", "peer", "trimo"].map((key) =>
      median(times.get(`${name} ${key}`) ?? []),
    );
    return {
      repository: name,
      floorMs: Math.round(floor),
      peerMs: Math.round(peer),
      trimoMs: Math.round(trimo),
      overFloor: Number((trimo / floor).toFixed(2)),
      overPeer: Number((trimo / peer).toFixed(2)),
    };
  });
  console.log(
    `\nWebhook → agent's first instruction, cold, medians of ${rounds} interleaved rounds\n`,
  );
  console.log("repository          create+start   run+clone   Trimo    ÷ floor   ÷ run+clone");
  for (const row of rows)
    console.log(
      `${row.repository.padEnd(20)}${`${row.floorMs} ms`.padStart(9)}${`${row.peerMs} ms`.padStart(13)}${`${row.trimoMs} ms`.padStart(10)}${String(row.overFloor).padStart(9)}${String(row.overPeer).padStart(13)}`,
    );
  console.log(`\nresident memory, idle: app ${memory.app} MB, daemon ${memory.daemon} MB\n`);
  console.log(JSON.stringify({ bench: "dispatch", rounds, rows, memoryMb: memory }));
}
