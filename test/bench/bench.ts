import { parseArgs } from "node:util";

// npm run bench -- NAME [--rounds N]: prints a table and, last, one line of JSON. Machines are noisy:
// what counts is the ratio to a floor or a peer measured in the same run.
const benches: Record<string, () => Promise<(rounds: number) => Promise<void>>> = {
  dispatch: async () => (await import("./dispatch.ts")).benchDispatch,
  gateway: async () => (await import("./gateway.ts")).benchGateway,
  image: async () => (await import("./image.ts")).benchImage,
  queue: async () => (await import("./queue.ts")).benchQueue,
  snapshot: async () => (await import("./snapshot.ts")).benchSnapshot,
  webhook: async () => (await import("./webhook.ts")).benchWebhook,
};

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { rounds: { type: "string", default: "7" } },
});
const name = positionals[0] ?? "dispatch";
const load = benches[name];
if (!load) {
  process.stderr.write(`✖ There is no bench "${name}", only ${Object.keys(benches).join(", ")}.\n`);
  process.exit(2);
}
await (await load())(Math.max(1, Number(values.rounds)));
