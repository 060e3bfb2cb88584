import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { createEmulator } from "emulate";
import { fetchAgain } from "./deliveries.ts";
import type { Answer } from "./routes/route.ts";
import { appId, type State, slug } from "./state.ts";

// `emulate` keeps users, issues, labels, comments and tokens; it stands behind the front.

const permissions = {
  contents: "write",
  pull_requests: "write",
  issues: "write",
  checks: "write",
  metadata: "read",
};

export type Emulator = {
  /** Passes a request on; `path` is below `/api/v3`. */
  ask(request: IncomingMessage, path: string, body: string): Promise<Answer>;
  close(): Promise<void>;
};

/** Starts emulate with what `state` was seeded with; `url` is the front's. */
export async function startEmulator(state: State, url: string): Promise<Emulator> {
  const port = await freePort();
  const own = `http://127.0.0.1:${port}`;
  const emulator = await createEmulator({
    service: "github",
    port,
    baseUrl: `${url}/api/v3`,
    seed: seedOf(state, url),
  });
  for (const { fullName } of state.seed.repositories)
    for (const [login, permission] of Object.entries(state.seed.people))
      await fetch(`${own}/repos/${fullName}/collaborators/${login}`, {
        method: "PUT",
        headers: {
          authorization: `Bearer ${state.tokenOf(state.first)}`,
          "content-type": "application/json",
        },
        body: JSON.stringify({ permission }),
      });
  return {
    async ask(request, path, body) {
      const query = (request.url ?? "").split("?")[1];
      const response = await fetchAgain(`${own}${path}${query ? `?${query}` : ""}`, {
        method: request.method,
        headers: {
          authorization: request.headers.authorization ?? "",
          "content-type": "application/json",
        },
        ...(body ? { body } : {}),
      } as RequestInit);
      const text = await response.text();
      const link = response.headers.get("link");
      return {
        status: response.status,
        body: text ? JSON.parse(text) : null,
        ...(link ? { headers: { link } } : {}),
      };
    },
    close: () => emulator.close(),
  };
}

function seedOf(state: State, url: string) {
  const { seed, tokens, first, owners, privateKey } = state;
  return {
    tokens: Object.fromEntries(
      [...tokens].map(([token, holder]) => [
        token,
        { login: holder.kind === "person" ? holder.login : "", scopes: ["repo"] },
      ]),
    ),
    github: {
      users: Object.keys(seed.people).map((login) => ({ login, name: login })),
      // One owner, the first of the people; every other member would be an admin too.
      orgs: owners.map((login) => ({ login, members: [{ login: first, role: "admin" }] })),
      repos: seed.repositories.map(({ fullName }) => {
        const [owner, name] = fullName.split("/");
        return { owner, name, default_branch: "main" };
      }),
      apps: [
        {
          app_id: appId,
          slug,
          name: "Trimo",
          private_key: privateKey,
          permissions,
          events: ["issues", "issue_comment"],
          webhook_url: `${url}/_deliver`,
          installations: owners.map((account) => ({
            installation_id: state.installationOf(account),
            account,
            repository_selection: "all",
          })),
        },
      ],
    },
  };
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, "127.0.0.1", resolve));
  const { port } = probe.address() as AddressInfo;
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
