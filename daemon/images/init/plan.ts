import { stringify } from "yaml";
import { baseImage } from "../base.ts";
import { type Language, languagesOf } from "./languages.ts";
import type { Project } from "./project.ts";
import { type Sorted, sortServices } from "./services.ts";

// A repository's image, written down: pure, from what was read to files and the reasons for them.

type InitPlan = {
  /** Path below the repository → text. */
  files: Record<string, string>;
  /** One sentence a choice. */
  why: string[];
  /** What the image does not have, and what to do about it. */
  missing: string[];
};

/** The Dockerfile and preboot of a project, and the reasons for each part. Pure. */
export function planImage(project: Project): InitPlan {
  const languages = languagesOf(project);
  const services = sortServices(project.services);
  const setups = services.carried.filter(({ setup }) => setup !== "");
  const beside = Object.fromEntries(
    languages.flatMap(({ files }) =>
      Object.entries(files).map(([name, text]) => [`.trimo/${name}`, text]),
    ),
  );
  return {
    files: {
      ".trimo/Dockerfile": dockerfile(languages, services),
      ".trimo/Dockerfile.dockerignore": ignoreFile(languages),
      ".trimo/preboot.sh": preboot(services),
      ".trimo/environment.sh": environment(project, languages, services),
      ...(setups.length > 0 ? { ".trimo/services.sh": setupScript(setups) } : {}),
      ...beside,
      ".github/trimo.yml": trimoYml(languages),
    },
    why: [
      ...languages.flatMap(({ why }) => why),
      ...(languages.length === 0
        ? ["No language was recognised: install what the project needs in the Dockerfile."]
        : []),
      ...services.carried.map(
        ({ names, kind, port, note }) =>
          `${names.join(" and ")}: ${kind} on 127.0.0.1:${port}${note ? `. ${note.trim()}` : "."}`,
      ),
    ],
    missing: [
      ...services.notCarried.map(({ name, why }) => `${name} is not carried over: ${why}.`),
      ...project.unread,
    ],
  };
}

function dockerfile(languages: Language[], { carried }: Sorted): string {
  const packages = [
    ...new Set([
      ...languages.flatMap((one) => one.packages),
      ...carried.flatMap((one) => one.packages),
    ]),
  ].sort();
  const install = [
    "RUN apt-get update -qq \\",
    " && apt-get install -qq -y --no-install-recommends \\",
    `      ${packages.join(" ")} \\`,
    " && rm -rf /var/lib/apt/lists/*",
  ];
  const setup = carried.some((one) => one.setup !== "");
  return `${[
    "# The image of this repository's runs, written by `trimo image init`; it is yours to change.",
    "# `trimo image build .` builds it, `trimo image check` says what is wrong with it.",
    `FROM ${baseImage}`,
    "",
    ...(packages.length > 0 ? [...install, ""] : []),
    ...(setup
      ? [
          "# Databases and users are made here, once; each run finds them as its own copy.",
          "COPY .trimo/services.sh /tmp/",
          "RUN bash /tmp/services.sh && rm /tmp/services.sh",
          "",
        ]
      : []),
    ...languages.flatMap((one) => (one.dockerfile ? [one.dockerfile, ""] : [])),
    "# ENV would reach preboot, but not the agent.",
    "COPY .trimo/environment.sh /etc/profile.d/project.sh",
    "COPY .trimo/preboot.sh /opt/trimo/preboot.sh",
    "RUN chmod 755 /opt/trimo/preboot.sh",
    ...(carried.length > 0 ? [`EXPOSE ${carried.map(({ port }) => port).join(" ")}`] : []),
  ].join("\n")}\n`;
}

/** Only what the build needs goes in, so that only its change makes a new image. */
function ignoreFile(languages: Language[]): string {
  const paths = [".trimo", ...languages.flatMap(({ context }) => context)];
  return `*\n${paths.map((path) => `!${path}\n`).join("")}`;
}

function setupScript(carried: Sorted["carried"]): string {
  const parts = carried.map(({ kind, setup }) => `# ${kind}\n${setup}`);
  return `#!/bin/bash\n# Runs as root while the image is built.\nset -euo pipefail\n\n${parts.join("\n\n")}\n`;
}

function preboot({ carried }: Sorted): string {
  const names = [...new Set(carried.flatMap((one) => one.names))].filter(
    (name) => /^[\w.-]+$/.test(name) && name !== "localhost",
  );
  const hosts =
    names.length > 0
      ? [
          "# The names that the compose file gave them lead here.",
          `echo "127.0.0.1 ${names.join(" ")}" >> /etc/hosts`,
          "",
        ]
      : [];
  const starts = carried.map(({ start }) => `${start} & waited+=" $!"`);
  return `${[
    "#!/bin/bash",
    "# Runs as root at each start of a container, beside the clone and without a network. Services start",
    "# at once; each returns when it is ready, and its log is shown when something fails.",
    "set -euo pipefail",
    "",
    ...hosts,
    ...(starts.length > 0
      ? ["waited=", ...starts, 'for pid in $waited; do wait "$pid"; done']
      : ["# Nothing to start: start-service NAME --port PORT -- COMMAND starts a service."]),
  ].join("\n")}\n`;
}

/** The application's own variables of the compose file, then what the services lack. */
function environment(project: Project, languages: Language[], { carried }: Sorted): string {
  const own = Object.assign(
    {},
    ...project.services.filter(({ built }) => built).map((one) => one.environment),
  ) as Record<string, string>;
  const lines = new Map<string, string>();
  for (const { environment: env } of carried)
    for (const [name, value] of Object.entries(env)) lines.set(name, quoted(value));
  for (const [name, value] of Object.entries(own)) lines.set(name, quoted(value));
  // These refer to variables of the shell's.
  for (const { environment: env } of languages)
    for (const [name, value] of Object.entries(env)) lines.set(name, `"${value}"`);
  const rows = [...lines].map(([name, value]) => `export ${name}=${value}`);
  return `# What the agent's shell, the verify commands and the application find in their environment.\n${rows.join("\n")}\n`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

function trimoYml(languages: Language[]): string {
  const verify = languages.flatMap((one) => one.verify);
  const head = "# How Trimo runs agents here. Read from the default branch.\n";
  return head + stringify({ build: ".trimo/Dockerfile", ...(verify.length > 0 ? { verify } : {}) });
}
