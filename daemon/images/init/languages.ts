import type { PackageJson, Project } from "./project.ts";

// How a repository's language comes into an image, with its dependencies where a lock names them, and
// how its tests are run.

export type Language = {
  name: string;
  packages: string[];
  /** Lines of the Dockerfile. */
  dockerfile: string;
  /** What of the repository the build needs. */
  context: string[];
  environment: Record<string, string>;
  /** Files beside the Dockerfile. */
  files: Record<string, string>;
  verify: string[];
  /** Why it is so, in sentences. */
  why: string[];
};

const blank = { packages: [], dockerfile: "", context: [], environment: {}, files: {}, verify: [] };
const defaultNode = "22";
const debianGo = [1, 19];

/** The languages that a project is written in, with what each needs in the image. */
export function languagesOf(project: Project): Language[] {
  return [node(project), python(project), go(project), ruby(project)].filter((one) => one !== null);
}

function node({ packageJson, versions, has }: Project): Language | null {
  if (!packageJson) return null;
  const engine = /\d+(?:\.\d+)*/.exec(packageJson.engines?.node ?? "")?.[0]?.split(".")[0];
  const wanted = versions.node ?? engine ?? defaultNode;
  const from = versions.node
    ? "the repository's own file says so"
    : engine
      ? "package.json's engines say so"
      : "the repository does not say";
  const [manager = "npm", exact = ""] = (packageJson.packageManager ?? managerOf(has)).split(
    /@(?=\d)/,
  );
  const version = /^\d+(?:\.\d+)*/.exec(exact)?.[0] ?? "";
  const test = packageJson.scripts?.test;
  const run = manager === "npm" ? "npm" : manager;
  const berry = manager === "yarn" && Number(version.split(".")[0] || 1) > 1;
  const install = berry ? berryInstall : (installs[manager] ?? installs.npm);
  const alone = standsAlone(packageJson);
  const locked = install !== undefined && has(install.lock) && alone;
  const verify = test && !/no test specified/.test(test) ? [`${run} test`] : [];
  return {
    ...blank,
    name: `Node ${wanted}`,
    dockerfile: [
      `RUN /opt/trimo/sbin/install-node ${wanted}`,
      ...(manager === "npm"
        ? []
        : [
            `RUN npm install --global ${berry ? "@yarnpkg/cli-dist" : manager}${version ? `@${version}` : ""}`,
          ]),
      ...(locked && install
        ? [
            "# The packages lie unpacked in the image; packages.sh copies them while the lock file is the same.",
            `COPY package.json ${install.lock} /opt/packages/`,
            `RUN cd /opt/packages && ${install.image}`,
          ]
        : []),
    ].join("\n"),
    context: locked && install ? ["package.json", install.lock] : [],
    files: locked && install ? { "packages.sh": packagesScript(install) } : {},
    verify: [...(locked ? ["bash .trimo/packages.sh"] : []), ...verify],
    why: [
      `Node ${wanted}: ${from}.`,
      locked
        ? `Packages are installed into the image by ${manager} from ${install?.lock}, and copied to the checkout by packages.sh.`
        : alone
          ? "There is no lock file, so no packages are installed into the image."
          : "Its packages need the rest of the repository (workspaces, install scripts or file: links), so none are installed into the image.",
      verify.length > 0
        ? `\`${run} test\` verifies each run.`
        : "package.json has no test script: nothing verifies a run yet.",
    ],
  };
}

type Install = { lock: string; image: string; run: string };
const installs: Record<string, Install> = {
  npm: {
    lock: "package-lock.json",
    image:
      "npm ci --no-audit --no-fund --loglevel=error --cache /tmp/npm && mkdir -p node_modules && rm -rf /tmp/npm",
    run: "npm ci --no-audit --no-fund",
  },
  pnpm: {
    lock: "pnpm-lock.yaml",
    image: "pnpm install --frozen-lockfile --config.node-linker=hoisted && mkdir -p node_modules",
    run: "pnpm install --frozen-lockfile",
  },
  yarn: {
    lock: "yarn.lock",
    image: "yarn install --frozen-lockfile && mkdir -p node_modules",
    run: "yarn install --frozen-lockfile",
  },
};

const berryInstall: Install = {
  lock: "yarn.lock",
  image: "YARN_NODE_LINKER=node-modules yarn install --immutable && mkdir -p node_modules",
  run: "YARN_NODE_LINKER=node-modules yarn install --immutable",
};

/** Whether package.json and the lock are all that an installation needs. */
function standsAlone({ workspaces, scripts, dependencies, devDependencies }: PackageJson): boolean {
  const hooks = ["preinstall", "install", "postinstall", "prepare"];
  if (workspaces || hooks.some((name) => scripts?.[name])) return false;
  const wanted = Object.values({ ...dependencies, ...devDependencies });
  return !wanted.some((version) => /^(file|link|portal|workspace):/.test(version));
}

function managerOf(has: Project["has"]): string {
  if (has("pnpm-lock.yaml")) return "pnpm";
  return has("yarn.lock") ? "yarn" : "npm";
}

function packagesScript({ lock, run }: Install): string {
  return `#!/bin/bash
# node_modules as the lock file says: a copy of the image's, or the manager's own work when the lock
# has changed since the image was built.
set -euo pipefail
cmp -s ${lock} node_modules/.lock && exit
rm -rf node_modules
if cmp -s ${lock} /opt/packages/${lock}; then
  cp -r /opt/packages/node_modules node_modules
else
  ${run}
fi
mkdir -p node_modules && cp ${lock} node_modules/.lock
`;
}

function python({ python: found, versions, has }: Project): Language | null {
  if (!found) return null;
  const wanted = versions.python ?? /\d+\.\d+/.exec(found.requires ?? "")?.[0];
  const all = found.dependencies;
  const install =
    found.file === "requirements.txt"
      ? "-r requirements.txt"
      : all.map((one) => `'${one.replaceAll("'", `'\\''`)}'`).join(" ");
  const uses = (name: string) => all.some((one) => one.toLowerCase().startsWith(name));
  const verify = has("manage.py")
    ? "python3 manage.py test --noinput"
    : uses("pytest")
      ? "python3 -m pytest"
      : "python3 -m unittest";
  return {
    ...blank,
    name: "Python 3.11",
    packages: ["python3", "python3-venv", "python3-pip"],
    dockerfile: [
      "# A place of its own for the packages; the agent may add to it.",
      "RUN python3 -m venv --system-site-packages /opt/venv",
      ...(all.length > 0 && !found.needsMore
        ? [
            ...(found.file === "requirements.txt" ? ["COPY requirements.txt /tmp/"] : []),
            `RUN cd /tmp && /opt/venv/bin/pip install --no-cache-dir --quiet ${install}`,
          ]
        : []),
      "RUN chown -R agent:agent /opt/venv",
    ].join("\n"),
    context:
      all.length > 0 && !found.needsMore && found.file === "requirements.txt"
        ? ["requirements.txt"]
        : [],
    environment: {
      VIRTUAL_ENV: "/opt/venv",
      PATH: "/opt/venv/bin:$PATH",
    },
    verify: [verify],
    why: [
      `Python 3.11 is Debian's${wanted && !wanted.startsWith("3.11") ? `; the repository asks for ${wanted}, which Debian has not` : ""}.`,
      found.needsMore
        ? `${found.file} names other files (${found.needsMore}), so its packages are not installed: do it in the Dockerfile.`
        : all.length > 0
          ? `${all.length} packages of ${found.file} are installed into /opt/venv.`
          : `${found.file} names no packages.`,
      `\`${verify}\` verifies each run.`,
    ],
  };
}

function go({ go: found, versions }: Project): Language | null {
  if (!found) return null;
  const wanted = versions.go ?? found.version;
  const [major = 1, minor = 0] = wanted.split(".").map(Number);
  const newer = major > (debianGo[0] ?? 1) || minor > (debianGo[1] ?? 0);
  // From 1.21 on the first release of a version has a .0.
  const exact = wanted.split(".").length > 2 || minor < 21 ? wanted : `${wanted}.0`;
  return {
    ...blank,
    name: newer ? `Go ${exact}` : "Go 1.19",
    packages: newer ? [] : ["golang-go"],
    dockerfile: [
      ...(newer
        ? [
            `RUN curl -fsSL "https://go.dev/dl/go${exact}.linux-$(dpkg --print-architecture).tar.gz" | tar -xz -C /usr/local`,
          ]
        : []),
      ...(found.modules > 0
        ? [
            "# The modules lie in the agent's own cache.",
            "COPY --chown=agent:agent go.mod go.su[m] /tmp/modules/",
            "RUN cd /tmp/modules && setpriv --reuid=agent --regid=agent --init-groups \\",
            `      env HOME=/home/agent PATH="/usr/local/go/bin:$PATH" go mod download && rm -rf /tmp/modules`,
          ]
        : []),
    ].join("\n"),
    context: found.modules > 0 ? ["go.mod", "go.sum"] : [],
    environment: { CGO_ENABLED: "0", ...(newer ? { PATH: "$PATH:/usr/local/go/bin" } : {}) },
    verify: ["go vet ./...", "go test ./..."],
    why: [
      newer
        ? `go.mod asks for Go ${wanted}; Debian has 1.19, so it comes from go.dev.`
        : `Debian's Go 1.19 serves go.mod's ${wanted}.`,
      "`go vet` and `go test` verify each run.",
    ],
  };
}

function ruby({ ruby: found, versions, has }: Project): Language | null {
  if (!found) return null;
  const wanted = versions.ruby ?? found.version;
  const verify =
    found.gems.includes("rspec") || found.gems.includes("rspec-rails")
      ? "bundle exec rspec"
      : has("bin/rails")
        ? "bin/rails test"
        : has("Rakefile")
          ? "rake test"
          : 'ruby -Itest -e \'Dir["test/**/*_test.rb"].each { |file| require "./#{file}" }\'';
  return {
    ...blank,
    name: "Ruby 3.1",
    packages: [
      "ruby",
      "ruby-bundler",
      ...(found.gems.length > 0 ? ["ruby-dev", "build-essential", "libpq-dev", "libyaml-dev"] : []),
    ],
    dockerfile:
      found.gems.length > 0
        ? [
            "# The gems lie in the image; the agent may add to them.",
            "COPY Gemfile Gemfile.loc[k] /opt/gems/",
            "RUN cd /opt/gems && BUNDLE_PATH=/opt/gems/bundle bundle install --quiet && chown -R agent:agent /opt/gems",
          ].join("\n")
        : "",
    context: found.gems.length > 0 ? ["Gemfile", "Gemfile.lock"] : [],
    environment: found.gems.length > 0 ? { BUNDLE_PATH: "/opt/gems/bundle" } : {},
    verify: [verify],
    why: [
      `Ruby 3.1 is Debian's${wanted && !wanted.startsWith("3.1") ? `; the repository asks for ${wanted}, which Debian has not` : ""}.`,
      `\`${verify}\` verifies each run.`,
    ],
  };
}
