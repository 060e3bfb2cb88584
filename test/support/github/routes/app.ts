import {
  type Answer,
  type Call,
  notFound,
  type Overlay,
  ok,
  type Route,
  type World,
} from "./route.ts";

/** The App's own: its installations, what each may reach, and its deliveries. */
export const app: Route = async ({ path, route, holder }, world) => {
  const { state } = world;
  if (path === "/app/installations")
    return ok(
      state.owners.map((login) => ({
        id: state.installationOf(login),
        account: { login },
        suspended_at: null,
      })),
    );
  if (path === "/installation/repositories") {
    const mine = ({ fullName }: { fullName: string }) =>
      holder.kind !== "installation" || fullName.startsWith(`${holder.account}/`);
    const found = state.seed.repositories.filter(mine);
    const repositories = await Promise.all(
      found.map(({ fullName }) => world.api(state.first, "GET", `/repos/${fullName}`)),
    );
    return ok({ total_count: repositories.length, repositories });
  }
  if (!path.startsWith("/app/hook/deliveries")) return null;
  if (route.startsWith("GET")) return ok(world.deliveries.list());
  const again = world.deliveries.redeliver(Number(/\/(\d+)\/attempts$/.exec(path)?.[1]));
  return again ? { status: 202, body: {} } : notFound;
};

/** Remembers what each token that emulate has made may do. */
export const tokens: Overlay = async (answer, { path }, { state }) => {
  const id = /^\/app\/installations\/(\d+)\/access_tokens$/.exec(path)?.[1];
  if (!id) return answer;
  const body = answer.body as {
    token: string;
    permissions: Record<string, string>;
    repositories?: { full_name: string }[];
  };
  state.tokens.set(body.token, {
    kind: "installation",
    account: state.ownerOf(Number(id)),
    repositories: body.repositories?.map((row) => row.full_name) ?? null,
    permissions: body.permissions,
  });
  state.mintedTokens.push(body.token);
  return answer;
};

const resources: [RegExp, string][] = [
  [/^check-runs|\/check-runs$/, "checks"],
  [/^git\/|^contents/, "contents"],
  [/^pulls/, "pull_requests"],
  [/^issues/, "issues"],
];

/** Refuses what an installation's token may not do, as the App's permissions say. */
export const permissions: Route = async ({ fullName, route, holder }: Call, _: World) => {
  if (holder.kind !== "installation" || !fullName) return null;
  if (holder.repositories && !holder.repositories.includes(fullName)) return notFound;
  const [method = "", path = ""] = route.split(" ");
  const resource = resources.find(([pattern]) => pattern.test(path))?.[1] ?? "metadata";
  const has = holder.permissions[resource] ?? (resource === "metadata" ? "read" : "none");
  const may = method === "GET" ? has !== "none" : has === "write";
  const refused: Answer = {
    status: 403,
    body: { message: "Resource not accessible by integration" },
  };
  return may ? null : refused;
};
