// What an agent sees of its image: a script that prints it, a line each, and what is read of that.

/** The base's own setuid programs; an image that adds some expects them to work. */
const usualSetuid = new Set([
  "chfn",
  "chsh",
  "gpasswd",
  "mount",
  "newgrp",
  "passwd",
  "su",
  "umount",
  "expiry",
  "chage",
  "unix_chkpwd",
  "ssh-keysign",
]);

/** Runs as the agent, in its login shell. Long enough for a service to die that is about to. */
export const probe = `
say() { printf 'probe\\t%s\\t%s\\n' "$1" "$2"; }
say uid "$(id -u)"
say home "$HOME"
touch "$HOME/.trimo-check" 2>/dev/null && say homeWritable yes; rm -f "$HOME/.trimo-check"
touch /workspace/.git/trimo-check 2>/dev/null && say workspaceWritable yes
touch /tmp/trimo-check 2>/dev/null && say tmpWritable yes
say capabilities "$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)"
say git "$(command -v git)"
for path in /opt/trimo /opt/trimo/bin /opt/trimo/sbin /opt/trimo/preboot.sh /etc/profile.d /etc/profile /var/lib/trimo; do
  [ -w "$path" ] && say rootWritable "$path"
done
[ -S /var/run/docker.sock ] && say dockerSocket yes
env -0 | while IFS= read -r -d '' row; do say env "\${row%%=*}"; done
find / -xdev -perm /6000 -type f 2>/dev/null | while read -r path; do say setuid "$path"; done
for agent in claude codex opencode gemini qwen; do
  command -v "$agent" >/dev/null && say agent "$agent $(timeout 20 "$agent" --version 2>/dev/null </dev/null | grep -oE '[0-9]+.[0-9][0-9A-Za-z.+-]*' | head -n 1)"
done
sleep 1.2
cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r _ local _ state _; do
  [ "$state" = 0A ] && say port "$((16#\${local##*:}))"
done
say end yes
`;

export type Probed = {
  uid: number;
  home: string;
  homeWritable: boolean;
  workspaceWritable: boolean;
  tmpWritable: boolean;
  capabilities: bigint;
  git: string;
  rootWritable: string[];
  dockerSocket: boolean;
  env: string[];
  setuid: string[];
  ports: number[];
  /** Those that Trimo knows, with the version each tells; '' where it does not start. */
  agents: { name: string; version: string }[];
};

/** What the probe printed, read; null when it did not come to its end. */
export function readProbe(output: string): Probed | null {
  const rows = output
    .split("\n")
    .map((line) => line.split("\t"))
    .filter(([mark]) => mark === "probe");
  const all = (name: string) =>
    rows.flatMap(([, key, value]) => (key === name ? [value ?? ""] : []));
  const one = (name: string) => all(name)[0] ?? "";
  if (one("end") !== "yes") return null;
  return {
    uid: Number(one("uid")),
    home: one("home"),
    homeWritable: one("homeWritable") === "yes",
    workspaceWritable: one("workspaceWritable") === "yes",
    tmpWritable: one("tmpWritable") === "yes",
    capabilities: BigInt(`0x${one("capabilities") || "1"}`),
    git: one("git"),
    rootWritable: all("rootWritable"),
    dockerSocket: one("dockerSocket") === "yes",
    env: all("env"),
    setuid: all("setuid").filter((path) => !usualSetuid.has(path.split("/").at(-1) ?? "")),
    agents: all("agent").map((row) => {
      const [name = "", version = ""] = row.split(" ");
      return { name, version };
    }),
    ports: [...new Set(all("port").map(Number))].sort((a, b) => a - b),
  };
}
