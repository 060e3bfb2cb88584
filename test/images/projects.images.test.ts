import { execFile, execFileSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  docker,
  leftovers,
  type Program,
  type Rig,
  script,
  startRig,
  until,
} from "../support/rig.ts";

// Real projects with real services: each is a repository whose daemon builds its image from `build:`,
// and an agent's run changes it, migrates its database and is verified against its services. The
// fixtures get their image from `trimo image init` first. Needs Debian's packages and npm's.

const examples = fileURLToPath(new URL("../../images/examples", import.meta.url));
const fixtures = fileURLToPath(new URL("fixtures", import.meta.url));
const fixtureNames = readdirSync(fixtures).sort();
const exampleNames = [
  "nextjs-postgres-redis",
  "django-postgres-celery",
  "go-postgres-elasticsearch",
];

const made = mkdtempSync(join(tmpdir(), "trimo-projects-"));
let rig: Rig;
let daemon: Program;

/** Writes to the development database, waits for the others to have done so, and looks what is there. */
const alone = `
set -e
echo "create table probe (run text); insert into probe values ('$TRIMO_RUN')" | psql -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -U app app_dev
echo "create table probe (run text); insert into probe values ('$TRIMO_RUN')" | psql -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -U app app_test
command -v redis-cli > /dev/null && redis-cli -n 5 set "$TRIMO_RUN" here > /dev/null
sleep 12
{ echo "$TRIMO_RUN"; for db in app_dev app_test; do psql -At -h 127.0.0.1 -U app $db -c 'select run from probe'; done
  if command -v redis-cli > /dev/null; then redis-cli -n 5 keys '*'; else echo "$TRIMO_RUN"; fi; } > SEEN
echo "drop table probe" | psql -q -h 127.0.0.1 -U app app_dev; echo "drop table probe" | psql -q -h 127.0.0.1 -U app app_test
`;
const agents = {
  small: script("echo $TRIMO_RUN > CHANGED"),
  "nextjs-postgres-redis": script(`${alone}
echo "alter table notes add column pinned boolean not null default false;" > migrations/002-pinned.sql
sed -i 's/select id, text from/select id, text, pinned from/' lib/notes.js
bash .trimo/packages.sh && npm run --silent migrate
psql -At -h 127.0.0.1 -U app app_dev -c 'select count(*), bool_or(pinned) from notes' > SCHEMA`),
  "django-postgres-celery": script(`${alone}
sed -i 's/    words = .*/&\\n    title = models.CharField(max_length=100, default="")/' documents/models.py
python3 manage.py makemigrations documents --name title && python3 manage.py migrate
psql -At -h 127.0.0.1 -U app app_dev -c 'select count(title) from documents_document' > SCHEMA`),
  "go-postgres-elasticsearch": script(`${alone}
echo "alter table articles add column author text not null default '';" > migrations/002-author.sql
go run . migrate
psql -At -h 127.0.0.1 -U app app_dev -c 'select count(author) from articles' > SCHEMA`),
};

beforeAll(async () => {
  const sources = [
    ...fixtureNames.map((name) => ({ name, folder: join(fixtures, name) })),
    ...exampleNames.map((name) => ({ name, folder: join(examples, name) })),
  ];
  for (const { name, folder } of sources) {
    const copy = join(made, name);
    cpSync(folder, copy, { recursive: true, filter: (path) => !/node_modules|\.next$/.test(path) });
    if (fixtureNames.includes(name)) await trimo("image", "init", copy);
    const git = (...args: string[]) => execFileSync("git", ["-C", copy, ...args]);
    git("init", "-q", "-b", "main");
    git("add", "-A");
    git("-c", "user.name=Ana", "-c", "user.email=ana@localhost", "commit", "-qm", "Begin");
  }
  rig = await startRig({
    repositories: sources.map(({ name }) => ({
      fullName: `acme/${name}`,
      source: join(made, name),
    })),
  });
  await rig.startApp();
  daemon = rig.startDaemon("studio", rig.enroll("studio"), {
    slots: 5,
    limits: { memory: "3g", cpus: 2, minutes: 15 },
    builds: {},
    agents,
  });
  await until("the daemon", () => daemon.output().includes('"connected"'));
}, 120_000);
afterAll(async () => {
  const left = leftovers(rig);
  await rig.stop();
  rmSync(made, { recursive: true });
  const built = docker("images", "-q", "--filter", "reference=trimo-build/acme-*");
  if (built.length > 0) docker("rmi", "-f", ...new Set(built));
  expect(left).toEqual([]);
  expect(rig.github.state.breaches).toEqual([]);
}, 120_000);

async function trimo(...args: string[]): Promise<string> {
  const root = fileURLToPath(new URL("../..", import.meta.url));
  const command = ["--import", "tsx", "bin/trimo.ts", ...args];
  return (await promisify(execFile)(process.execPath, command, { cwd: root })).stdout;
}

async function begin(name: string, agent: string): Promise<number> {
  const issue = await rig.github.openIssue("ana", `acme/${name}`, "Change it", "");
  await rig.github.label("ana", `acme/${name}`, issue, `trimo:${agent}`);
  return issue;
}
async function ended(name: string, issue: number): Promise<string> {
  return await until(
    `the end on acme/${name}#${issue}`,
    async () =>
      (await rig.github.comments(`acme/${name}`, issue)).find((one) =>
        /^(✅|❌|⚪|💔|⌛|⏹️) \*\*Run/m.test(one.body),
      )?.body,
    1_500_000,
  );
}
const fileOf = async (name: string, issue: number, path: string) =>
  (
    await rig.github.repositories.git(`acme/${name}`, ["show", `trimo/${issue}-change-it:${path}`])
  ).trim();
const imageOf = (name: string) =>
  docker(
    "images",
    "--filter",
    `reference=trimo-build/acme-${name}`,
    "--format",
    "{{.Repository}}:{{.Tag}}",
  );

type Checked = { ok: boolean; findings: { level: string }[]; services: { name: string }[] };

describe("trimo image init", () => {
  test.each(
    fixtureNames,
  )("gives %s an image that a daemon builds, whose run is verified, and that passes the check", async (name) => {
    const said = await ended(name, await begin(name, "small"));
    expect(said).toMatch(/^✅/m);
    expect(said).toContain(name === "plain" ? "Not verified" : "✅ passed");
    const [image = ""] = imageOf(name);
    const checked = JSON.parse(await trimo("image", "check", image, "--json")) as Checked;
    expect(checked.ok).toBe(true);
    const services: Record<string, string[]> = {
      shop: ["postgres", "redis"],
      blog: ["mysql"],
      tool: ["postgres"],
      site: ["redis"],
      queue: ["rabbitmq"],
      plain: [],
    };
    expect(checked.services.map((one) => one.name).sort()).toEqual(services[name]);
  }, 2_400_000);
});

describe("five containers at once", () => {
  test("of three projects, on the same ports, change code, migrate and are verified, and none sees another's data", async () => {
    // Built first, so that all five begin together.
    for (const name of exampleNames)
      expect(await ended(name, await begin(name, "small"))).toMatch(/^✅/m);
    const five = [...exampleNames, ...exampleNames.slice(0, 2)];
    const issues = await Promise.all(
      five.map(async (name) => ({ name, issue: await begin(name, name) })),
    );
    let most = 0;
    const counting = setInterval(() => {
      most = Math.max(most, docker("ps", "-q", "--filter", "label=dev.trimo.run").length);
    }, 500);
    try {
      for (const { name, issue } of issues) {
        const said = await ended(name, issue);
        expect(said).toMatch(/^✅/m);
        expect(said.match(/✅ passed/g)).toHaveLength(3);
        const [run, ...seen] = (await fileOf(name, issue, "SEEN")).split("\n");
        expect(seen).toEqual([run, run, run]);
        expect(await fileOf(name, issue, "SCHEMA")).toMatch(/^0/);
      }
    } finally {
      clearInterval(counting);
    }
    expect(most).toBe(5);
  }, 2_400_000);

  test("and Elasticsearch is among the services where it could be fetched", async (context) => {
    const [image = ""] = imageOf("go-postgres-elasticsearch");
    const look = "cat /opt/elasticsearch/missing 2>/dev/null || true";
    const [missing] = docker("run", "--rm", "--entrypoint", "bash", image, "-c", look);
    if (missing) context.skip(`no Elasticsearch: ${missing}`);
    const checked = JSON.parse(await trimo("image", "check", image, "--json")) as Checked;
    expect(checked.services.map(({ name }) => name)).toContain("elasticsearch");
  });
});
