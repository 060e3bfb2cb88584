import type { ComposeService } from "./project.ts";

// How each common service of a compose file comes into an image: out of Debian, on its usual port,
// with the names and passwords that the compose file gives it. One row a kind.

type Carried = {
  kind: string;
  /** Debian's packages. */
  packages: string[];
  /** For databases.sh, as root, while the image is built. */
  setup: string;
  /** For preboot.sh: one start-service, without the & behind it. */
  start: string;
  port: number;
  /** What the application may read, unless the compose file says it. */
  environment: Record<string, string>;
  /** What is not as in the compose file. */
  note: string;
};

type Kind = {
  kind: string;
  matches: RegExp;
  debian: string;
  carry(service: ComposeService): Omit<Carried, "kind" | "note">;
};

const versionOf = (image: string): string | null => /:v?(\d+(?:\.\d+)?)/.exec(image)?.[1] ?? null;
/** Into a shell's single quotes, and into SQL's. */
const shell = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
const sql = (text: string): string => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
const word = (text: string | undefined, otherwise: string): string =>
  text && /^[A-Za-z_][\w-]*$/.test(text) ? text : otherwise;
const part = (text: string): string => encodeURIComponent(text);

const kinds: Kind[] = [
  {
    kind: "postgres",
    matches: /^(?:.*\/)?(?:postgres|postgresql|postgis|timescaledb)(?::|@|$)/,
    debian: "PostgreSQL 15",
    carry({ environment: env }) {
      const user = word(env.POSTGRES_USER, "postgres");
      const password = env.POSTGRES_PASSWORD ?? "postgres";
      const name = word(env.POSTGRES_DB, user);
      const url = (database: string) =>
        `postgres://${user}:${part(password)}@127.0.0.1:5432/${database}`;
      return {
        packages: ["postgresql", "postgresql-client"],
        port: 5432,
        environment: { DATABASE_URL: url(name), TEST_DATABASE_URL: url(`${name}_test`) },
        setup: `bin=$(echo /usr/lib/postgresql/*/bin)
data=$(echo /var/lib/postgresql/*/main)
conf=$(echo /etc/postgresql/*/main)
printf '%s\\n' 'fsync = off' 'synchronous_commit = off' 'full_page_writes = off' \\
  "listen_addresses = '127.0.0.1'" >> "$conf/postgresql.conf"
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
mkdir -p /var/run/postgresql && chown postgres:postgres /var/run/postgresql
# Only this container reaches it: no password is asked for, and the usual one is accepted.
printf 'local all all trust\\nhost all all 127.0.0.1/32 trust\\n' > "$conf/pg_hba.conf"
as_postgres "$bin/pg_ctl" start -w -D "$data" -o "-c config_file=$conf/postgresql.conf" -l /tmp/postgres.log
as_postgres psql -q -v ON_ERROR_STOP=1 <<'SQL'
${user === "postgres" ? "alter" : "create"} role "${user}" with login superuser password ${sql(password)};
SQL
for name in ${[...new Set([name, `${name}_test`])].filter((one) => one !== "postgres").join(" ")}; do
  as_postgres "$bin/createdb" --owner=${shell(user)} "$name"
done
as_postgres "$bin/pg_ctl" stop -w -D "$data" -m fast
rm -f /tmp/postgres.log`,
        start: `bin=$(echo /usr/lib/postgresql/*/bin)
mkdir -p /var/run/postgresql && chown postgres:postgres /var/run/postgresql
start-service postgres --user postgres --ready "$bin/pg_isready -q -h 127.0.0.1" -- \\
  "$bin/postgres" -D "$(echo /var/lib/postgresql/*/main)" \\
  -c config_file="$(echo /etc/postgresql/*/main)/postgresql.conf"`,
      };
    },
  },
  {
    kind: "redis",
    matches: /^(?:.*\/)?(?:redis|redis-stack|redis-stack-server|valkey|keydb)(?::|@|$)/,
    debian: "Redis 7.0",
    carry: () => ({
      packages: ["redis-server"],
      port: 6379,
      environment: { REDIS_URL: "redis://127.0.0.1:6379/0" },
      setup: "",
      start: `start-service redis --user redis --port 6379 -- \\
  redis-server --bind 127.0.0.1 --save '' --appendonly no --dir /tmp`,
    }),
  },
  {
    kind: "mysql",
    matches: /^(?:.*\/)?(?:mysql|mysql-server|mariadb|percona)(?::|@|$)/,
    debian: "MariaDB 10.11",
    carry({ environment: env }) {
      const get = (name: string) => env[`MYSQL_${name}`] ?? env[`MARIADB_${name}`];
      const user = word(get("USER"), "app");
      const password = get("PASSWORD") ?? get("ROOT_PASSWORD") ?? "app";
      const root = get("ROOT_PASSWORD") ?? "";
      const name = word(get("DATABASE"), "app");
      const url = (database: string) =>
        `mysql://${user}:${part(password)}@127.0.0.1:3306/${database}`;
      const create = [name, `${name}_test`].map((one) => `create database \`${one}\`;`).join("\n");
      return {
        packages: ["mariadb-server", "mariadb-client"],
        port: 3306,
        environment: { DATABASE_URL: url(name), TEST_DATABASE_URL: url(`${name}_test`) },
        setup: `printf '[mariadbd]\\nbind-address = 127.0.0.1\\ninnodb_flush_log_at_trx_commit = 0\\nskip-name-resolve\\n' \\
  > /etc/mysql/mariadb.conf.d/90-trimo.cnf
mkdir -p /run/mysqld && chown mysql:mysql /run/mysqld
setpriv --reuid=mysql --regid=mysql --init-groups mariadbd --skip-networking & mariadb=$!
until mariadb-admin --silent ping > /dev/null 2>&1; do sleep 0.1; done
mariadb <<'SQL'
${create}
create user ${sql(user)}@'%' identified by ${sql(password)};
grant all on *.* to ${sql(user)}@'%';
create user 'root'@'127.0.0.1' identified by ${sql(root)};
grant all on *.* to 'root'@'127.0.0.1' with grant option;
SQL
mariadb-admin shutdown && wait $mariadb`,
        start: `mkdir -p /run/mysqld && chown mysql:mysql /run/mysqld
start-service mysql --user mysql --port 3306 -- mariadbd`,
      };
    },
  },
  {
    kind: "rabbitmq",
    matches: /^(?:.*\/)?rabbitmq(?::|@|$)/,
    debian: "RabbitMQ 3.10",
    carry({ environment: env }) {
      const user = word(env.RABBITMQ_DEFAULT_USER, "guest");
      const password = env.RABBITMQ_DEFAULT_PASS ?? "guest";
      return {
        packages: ["rabbitmq-server"],
        port: 5672,
        environment: { RABBITMQ_URL: `amqp://${user}:${part(password)}@127.0.0.1:5672/` },
        setup: `printf '%s\\n' 'listeners.tcp.default = 127.0.0.1:5672' 'default_user = ${user}' \\
  ${shell(`default_pass = ${password}`)} > /etc/rabbitmq/rabbitmq.conf
printf 'NODENAME=rabbit@localhost\\n' > /etc/rabbitmq/rabbitmq-env.conf`,
        start: `start-service rabbitmq --user rabbitmq --port 5672 --seconds 90 -- \\
  /usr/lib/rabbitmq/bin/rabbitmq-server`,
      };
    },
  },
];

/** Known, but not in Debian: where they come from, for who adds them by hand. */
const elsewhere: [RegExp, string, string][] = [
  [
    /elasticsearch/,
    "Elasticsearch",
    "images/examples/go-postgres-elasticsearch has it from its maker's archive",
  ],
  [
    /opensearch/,
    "OpenSearch",
    "add its maker's archive in the Dockerfile, and a start-service line",
  ],
  [/minio/, "MinIO", "COPY --from its image, /usr/bin/minio, and a start-service line"],
  [
    /mailpit|mailhog|maildev/,
    "the mail catcher",
    "COPY --from axllent/mailpit, /mailpit, and a start-service line",
  ],
];

export type Sorted = {
  carried: (Carried & { names: string[]; image: string })[];
  notCarried: { name: string; why: string }[];
};

/** Sorts the services of a compose file: each is carried into the image, or named with the reason why not. */
export function sortServices(services: ComposeService[]): Sorted {
  const sorted: Sorted = { carried: [], notCarried: [] };
  for (const service of services) {
    if (service.built) continue;
    const { name, image } = service;
    const kind = kinds.find(({ matches }) => matches.test(image));
    if (!kind) {
      sorted.notCarried.push({ name, why: whyNot(image) });
      continue;
    }
    const before = sorted.carried.find((one) => one.kind === kind.kind);
    if (before) {
      // One port, one service: the second finds the first.
      before.names.push(name);
      before.note += ` ${name} is the same server as ${before.names[0]}.`;
      continue;
    }
    const version = versionOf(image);
    const same = version === null || kind.debian.includes(` ${version.split(".")[0]}`);
    const note =
      same && !/mysql|percona|valkey|postgis|timescale/.test(image)
        ? ""
        : `${kind.debian} stands in for ${image}.`;
    sorted.carried.push({ kind: kind.kind, ...kind.carry(service), note, names: [name], image });
  }
  return sorted;
}

function whyNot(image: string): string {
  const known = elsewhere.find(([pattern]) => pattern.test(image));
  if (known) return `${known[1]} is not among Debian's packages: ${known[2]}`;
  return image === ""
    ? "it names no image"
    : `${image} is not known here; install it in the Dockerfile and start it in preboot.sh`;
}
