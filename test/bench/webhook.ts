import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHmac, generateKeyPairSync, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

// Signed deliveries accepted per second: the app as installed (dist), which answers 202 when the delivery
// is on the disk (synchronous=FULL), beside Probot with an empty handler, which stores nothing. Both are
// processes of their own, asked in turns with the same bodies by the same number of connections.

const root = fileURLToPath(new URL("../..", import.meta.url));
const connections = 32;
const deliveriesPerRound = 2_000;
const sizes = [10 * 1024, 100 * 1024];
const secret = "a secret of the bench";

type Times = { perSecond: number; p50: number; p99: number };

export async function benchWebhook(rounds: number) {
  // Always anew: what is measured is what is here.
  execFileSync("npm", ["run", "--silent", "build"], { cwd: root, stdio: "inherit" });
  const folder = mkdtempSync(join(tmpdir(), "trimo-bench-"));
  const { privateKey } = generateKeyPairSync("rsa", {
    modulusLength: 2048,
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
    publicKeyEncoding: { type: "spki", format: "pem" },
  });
  const env: Record<string, string | undefined> = {
    ...process.env,
    APP_ID: "1",
    PRIVATE_KEY: privateKey,
    WEBHOOK_SECRET: secret,
    TRIMO_DATA: folder,
    PORT: "0",
    LOG_LEVEL: "fatal",
    // Nothing answers there: what the app asks of GitHub by itself fails at once.
    GHE_HOST: "127.0.0.1:9",
    GHE_PROTOCOL: "http",
  };
  const servers = {
    trimo: await start(["dist/bin/trimo.js", "app"], env),
    probot: await start(["--import", "tsx", "test/bench/probot-server.ts"], env),
  };
  try {
    const results: Record<string, Times[]> = {};
    for (let round = 0; round <= rounds; round++) {
      process.stderr.write(round === 0 ? "· warming up\n" : `· round ${round} of ${rounds}\n`);
      for (const size of sizes)
        for (const [name, server] of Object.entries(servers)) {
          const times = await load(server.url, size, round === 0 ? 300 : deliveriesPerRound);
          // What Trimo has accepted it also handles; the next in turn shall not pay for that.
          await new Promise((resolve) => setTimeout(resolve, 3_000));
          const key = `${name} ${size / 1024} KB`;
          if (round > 0) results[key] = [...(results[key] ?? []), times];
        }
    }
    print(rounds, results);
  } finally {
    for (const server of Object.values(servers)) server.process.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
}

async function start(
  args: string[],
  env: Record<string, string | undefined>,
): Promise<{ url: string; process: ChildProcess }> {
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: env as NodeJS.ProcessEnv,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const url = await new Promise<string>((resolve, reject) => {
    let text = "";
    child.stdout?.on("data", (chunk) => {
      text += chunk;
      const found = /^http:\/\/\S+$/m.exec(text)?.[0];
      if (found) resolve(found);
    });
    child.once("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}`)));
  });
  return { url, process: child };
}

async function load(url: string, bytes: number, count: number): Promise<Times> {
  const agent = new Agent({ keepAlive: true, maxSockets: connections });
  const body = Buffer.from(payload(bytes));
  const signature = `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
  const latencies: number[] = [];
  let left = count;
  const startedAt = performance.now();
  const worker = async () => {
    while (left-- > 0) {
      const sentAt = performance.now();
      await post(`${url}/api/github/webhooks`, agent, body, signature);
      latencies.push(performance.now() - sentAt);
    }
  };
  await Promise.all(Array.from({ length: connections }, worker));
  const seconds = (performance.now() - startedAt) / 1_000;
  agent.destroy();
  latencies.sort((a, b) => a - b);
  const at = (part: number) => latencies[Math.floor(latencies.length * part)] ?? 0;
  return { perSecond: count / seconds, p50: at(0.5), p99: at(0.99) };
}

function post(url: string, agent: Agent, body: Buffer, signature: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = {
      "content-type": "application/json",
      "content-length": body.length,
      "x-github-delivery": randomUUID(),
      "x-github-event": "issues",
      "x-hub-signature-256": signature,
    };
    const sent = request(url, { method: "POST", agent, headers }, (response) => {
      response.resume();
      response.on("end", () => {
        if ((response.statusCode ?? 500) < 300) resolve();
        else reject(new Error(`answered ${response.statusCode}`));
      });
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

/** An issue that was edited: of a size, and nothing for anybody to do. */
function payload(bytes: number): string {
  const issue = { number: 1, title: "Bench", state: "open", body: "", labels: [] };
  const whole = {
    action: "edited",
    issue,
    repository: { id: 1, full_name: "acme/app", default_branch: "main" },
    installation: { id: 1 },
    sender: { login: "ana", type: "User" },
  };
  issue.body = "x".repeat(bytes - JSON.stringify(whole).length);
  return JSON.stringify(whole);
}

function print(rounds: number, results: Record<string, Times[]>) {
  const median = (list: number[]) => list.sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? 0;
  const rows = Object.entries(results).map(([name, times]) => ({
    name,
    perSecond: Math.round(median(times.map((t) => t.perSecond))),
    p50Ms: Number(median(times.map((t) => t.p50)).toFixed(1)),
    p99Ms: Number(median(times.map((t) => t.p99)).toFixed(1)),
  }));
  const ratioOf = (kb: number) => {
    const of = (who: string) => rows.find((row) => row.name === `${who} ${kb} KB`)?.perSecond ?? 0;
    return Number((of("trimo") / of("probot")).toFixed(2));
  };
  const ratios = Object.fromEntries(
    sizes.map((size) => [`${size / 1024} KB`, ratioOf(size / 1024)]),
  );
  process.stdout.write(
    `signed deliveries, ${connections} connections, medians of ${rounds} rounds of ${deliveriesPerRound}\n\n`,
  );
  process.stdout.write("who, size            per second   p50 ms   p99 ms\n");
  for (const row of rows)
    process.stdout.write(
      `${row.name.padEnd(20)} ${String(row.perSecond).padStart(10)} ${String(row.p50Ms).padStart(8)} ${String(row.p99Ms).padStart(8)}\n`,
    );
  process.stdout.write(
    `\nTrimo, durable before 202, against Probot with an empty handler: ${JSON.stringify(ratios)}\n`,
  );
  process.stdout.write(`${JSON.stringify({ bench: "webhook", rounds, rows, ratios })}\n`);
}
