import { type ChildProcess, execFileSync, fork, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { fileURLToPath } from "node:url";
import { systemClock } from "../../app/protocol/clock.ts";
import { nothingSpent } from "../../daemon/agents/adapter.ts";
import { volumeName } from "../../daemon/docker/container-spec.ts";
import { connectDocker } from "../../daemon/docker/docker-engine.ts";
import { createCredential } from "../../daemon/gateway/credential.ts";
import { type Endpoints, openGateway } from "../../daemon/gateway/gateway.ts";
import { createGitHubProxy } from "../../daemon/gateway/github-reads.ts";
import { Messages } from "../../daemon/gateway/messages.ts";
import { Meter } from "../../daemon/gateway/meter.ts";
import { createModel, openPool } from "../../daemon/gateway/model/model.ts";
import { baseImage } from "../../daemon/images/base.ts";
import { residentMb } from "../support/rig.ts";

// What the model gateway costs: a client in a container asks a model through tunnel and gateway, and
// the same client asks the same model from a container on the host's network, which is the floor.
// Model and gateway are processes of their own. Time to the first byte of a small request, megabytes a
// second of a large answer; then the gateway's resident memory while 1 and 8 containers stream at a
// model's pace.

const megabytes = 256;
const requests = 60;
const paceMs = 20;
const streamMs = 4_000;

/** Run in a container: asks `url` and prints milliseconds or megabytes a second, a line each. */
const client = `
const http = require("node:http");
const [, , url, what, count] = process.argv;
const agent = new http.Agent({ keepAlive: true });
const ask = (size) => new Promise((resolve, reject) => {
  const body = JSON.stringify({ model: "m", stream: true, size });
  const began = process.hrtime.bigint();
  let first = null, bytes = 0;
  const request = http.request(url, { method: "POST", agent, headers: { "content-type": "application/json", "x-size": String(size) } }, (response) => {
    response.on("data", (chunk) => { first ??= process.hrtime.bigint(); bytes += chunk.length; });
    response.on("end", () => resolve({ firstMs: Number(first - began) / 1e6, seconds: Number(process.hrtime.bigint() - began) / 1e9, bytes }));
  });
  request.on("error", reject);
  request.end(body);
});
(async () => {
  await ask(1);
  if (what === "first") for (let i = 0; i < Number(count); i++) console.log((await ask(1)).firstMs.toFixed(3));
  else if (what === "much") { const { bytes, seconds } = await ask(Number(count)); console.log((bytes / 1e6 / seconds).toFixed(1)); }
  else { await ask(-Number(count)); console.log("streamed"); }
})();
`;

/** Answers with so many bytes of events, or for so long with one every few milliseconds. */
function serveModelFloor() {
  const line = Buffer.from(
    `data: ${JSON.stringify({ type: "delta", text: "x".repeat(16_000) })}\n\n`,
  );
  const small = Buffer.from(`data: ${JSON.stringify({ type: "delta", text: "word " })}\n\n`);
  const server = createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      const size = Number(request.headers["x-size"]);
      response.writeHead(200, { "content-type": "text/event-stream" });
      if (size < 0) {
        const timer = setInterval(() => response.write(small), paceMs);
        setTimeout(() => {
          clearInterval(timer);
          response.end();
        }, -size);
        return;
      }
      let left = Math.max(1, Math.round(size / line.length));
      const pump = () => {
        while (left > 0) {
          left -= 1;
          if (!response.write(size === 1 ? small : line)) return void response.once("drain", pump);
        }
        response.end();
      };
      pump();
    });
  });
  server.listen(0, "0.0.0.0", () =>
    process.send?.({ port: (server.address() as AddressInfo).port }),
  );
}

/** The daemon's end: told a container's id, it opens the tunnel and says so. */
function serveGateways(upstream: string) {
  const engine = connectDocker();
  const fact = () => {};
  process.on("message", async ({ id }: { id: string }) => {
    const meter = new Meter(
      { clock: systemClock, tell: fact, over: fact },
      null,
      { tokens: null, usd: null },
      true,
      nothingSpent,
    );
    const credential = createCredential("env:KEY", { KEY: "k" }, systemClock, fact);
    const service = {
      name: "it",
      api: "anthropic" as const,
      baseUrl: upstream,
      timeoutMs: 60_000,
      patienceMs: 60_000,
    };
    const on = { fact, connection: fact, limitHit: fact };
    const model = createModel({
      settings: service,
      credential,
      meter,
      secrets: new Set(),
      clock: systemClock,
      pool: openPool(),
      on,
    });
    const job = { repository: "a/b", branch: "b", issue: null };
    const github = createGitHubProxy(
      "http://127.0.0.1:9",
      job,
      async () => "",
      () => false,
      systemClock,
    );
    const gate = { folder: "/nonexistent", branch: "b" } as unknown as Endpoints["gate"];
    const endpoints = {
      gate,
      github,
      model,
      messages: new Messages(systemClock, 0, fact),
      sessionFiles: null,
    };
    const rules = { mode: "locked" as const, machine: [], repository: [], forge: "github.com" };
    const tunnel = ["/opt/trimo/node/bin/node", "/opt/trimo/tunnel.js"];
    const carrier = await engine.exec(id, tunnel);
    openGateway(carrier as { input: Duplex; output: Duplex }, endpoints, rules, {
      pushed: fact,
      connection: fact,
    });
    process.send?.({ open: id });
  });
  process.send?.({ ready: true });
}

const [role, argument] = process.argv.slice(2);
if (role === "as-model") serveModelFloor();
if (role === "as-gateway") serveGateways(argument ?? "");

export async function benchGateway(rounds: number) {
  const engine = connectDocker();
  const folder = mkdtempSync(join(tmpdir(), "trimo-bench-"));
  const model = begin("as-model");
  const { port } = await message<{ port: number }>(model, "port");
  const gateway = begin("as-gateway", `http://127.0.0.1:${port}`);
  await message(gateway, "ready");
  const boxes: { id: string; name: string; abandon: () => void }[] = [];
  const host = execFileSync("docker", [
    "run",
    "-d",
    "--network",
    "host",
    "--entrypoint",
    "sleep",
    baseImage,
    "100000",
  ])
    .toString()
    .trim();
  const through = "http://127.0.0.1:3128/model/it/v1/messages";
  const direct = `http://127.0.0.1:${port}/v1/messages`;
  const rows = {
    first: { direct: [] as number[], through: [] as number[] },
    much: { direct: [] as number[], through: [] as number[] },
  };
  const idle: number[] = [];
  const memory: Record<number, number> = {};
  try {
    for (let i = 0; i < 8; i++) {
      const run = `bench${String(i).padStart(7, "0")}`;
      const box = {
        run,
        attempt: 1,
        daemon: "bench",
        image: baseImage,
        cpus: 2,
        memoryBytes: 2 ** 29,
        pids: 200,
      };
      const started = await engine.startContainer(box);
      boxes.push({ id: started.container, name: volumeName(run, 1), abandon: started.abandon });
      gateway.send({ id: started.container });
      await message(gateway, "open");
    }
    const inside = boxes[0]?.id ?? "";
    for (let round = 0; round <= rounds; round++) {
      process.stderr.write(round === 0 ? "· warming up\n" : `· round ${round} of ${rounds}\n`);
      for (const [name, id, url] of [
        ["direct", host, direct],
        ["through", inside, through],
      ] as const) {
        const first = (await ask(id, url, "first", requests)).map(Number);
        const much = (await ask(id, url, "much", megabytes * 1e6)).map(Number);
        if (round === 0) continue;
        rows.first[name].push(...first);
        rows.much[name].push(...much);
      }
    }
    idle.push(residentMb(gateway));
    for (const number of [1, 8]) {
      const streaming = boxes
        .slice(0, number)
        .map(({ id }) => ask(id, through, "stream", streamMs));
      let most = 0;
      const watch = setInterval(() => {
        most = Math.max(most, residentMb(gateway));
      }, 100);
      await Promise.all(streaming);
      clearInterval(watch);
      memory[number] = most;
    }
  } finally {
    execFileSync("docker", ["rm", "-f", host]);
    for (const { id, name, abandon } of boxes) {
      abandon();
      await engine.removeContainer(id);
      await engine.removeVolume(name);
    }
    gateway.kill("SIGKILL");
    model.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  }
  print(rows, idle[0] ?? 0, memory);
}

function begin(...args: string[]): ChildProcess {
  const file = fileURLToPath(import.meta.url);
  return fork(file, args, {
    execArgv: ["--import", "tsx"],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
}

function message<T>(child: ChildProcess, key: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const take = (value: object) => {
      if (!(key in value)) return;
      child.off("message", take);
      resolve(value as T);
    };
    child.on("message", take);
    child.once("exit", () => reject(new Error("a process of the bench ended")));
  });
}

/** The client inside a container; its lines. */
function ask(id: string, url: string, what: string, count: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const node = ["exec", "-i", id, "/opt/trimo/node/bin/node", "-", url, what, String(count)];
    const child = spawn("docker", node, { stdio: ["pipe", "pipe", "inherit"] });
    let text = "";
    child.stdout.on("data", (chunk) => {
      text += chunk;
    });
    child.on("close", (exit) =>
      exit === 0 ? resolve(text.split("\n").filter(Boolean)) : reject(new Error(`exit ${exit}`)),
    );
    child.stdin.end(client);
  });
}

const quantile = (all: number[], part: number): number =>
  all.toSorted((a, b) => a - b)[Math.min(all.length - 1, Math.floor(all.length * part))] ?? 0;

type Rows = Record<"first" | "much", Record<"direct" | "through", number[]>>;
function print(rows: Rows, idleMb: number, memory: Record<number, number>) {
  const p50 = {
    direct: quantile(rows.first.direct, 0.5),
    through: quantile(rows.first.through, 0.5),
  };
  const p99 = {
    direct: quantile(rows.first.direct, 0.99),
    through: quantile(rows.first.through, 0.99),
  };
  const speed = {
    direct: quantile(rows.much.direct, 0.5),
    through: quantile(rows.much.through, 0.5),
  };
  const added = p50.through - p50.direct;
  const lines = [
    "                              direct    through tunnel and gateway",
    `first byte, median, ms      ${p50.direct.toFixed(2).padStart(8)}  ${p50.through.toFixed(2).padStart(8)}   +${added.toFixed(2)} (aim: at most 5)`,
    `first byte, p99, ms         ${p99.direct.toFixed(2).padStart(8)}  ${p99.through.toFixed(2).padStart(8)}`,
    `large answer, MB/s          ${speed.direct.toFixed(0).padStart(8)}  ${speed.through.toFixed(0).padStart(8)}   (aim: at least 100)`,
    `gateway's resident memory: ${idleMb.toFixed(0)} MB idle, ${memory[1]?.toFixed(0)} MB with 1 run streaming, ${memory[8]?.toFixed(0)} MB with 8`,
  ];
  process.stderr.write(`\n${lines.join("\n")}\n\n`);
  process.stdout.write(
    `${JSON.stringify({ bench: "gateway", firstByteMs: { p50, p99, added }, megabytesPerSecond: speed, residentMb: { idle: idleMb, ...memory } })}\n`,
  );
}
