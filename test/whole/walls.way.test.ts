import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Rig, startRig, until } from "../support/rig.ts";

// A hostile agent, with the wrapper bypassed, tries what it must not be able to do; what it got is
// committed to RESULTS, and the remote is looked at from outside.

const repository = "acme/app";
let rig: Rig;
let listener: Server;
let heard = 0;
let before: Record<string, string>;

const attack = `
r() { name=$1; shift; if timeout 20 "$@" > /tmp/out 2>&1; then echo "$name: done" >> /tmp/results; else echo "$name: refused: $(tr '\\n' ' ' < /tmp/out | tail -c 300)" >> /tmp/results; fi; }
git=/usr/bin/git
cd /workspace
echo one > ONE; git add ONE; git commit -qm One
echo two > TWO; git add TWO; git commit -qm Two
r wrapper-force git push --force
r wrapper-main git push origin HEAD:main
r wrapper-tag git push origin --tags
$git reset -q --hard HEAD~1; echo other > OTHER; $git add OTHER; $git commit -qm Other
r force $git push --force origin HEAD:refs/heads/$TRIMO_BRANCH
r plus $git push origin +HEAD:refs/heads/$TRIMO_BRANCH
$git reset -q --hard origin/$TRIMO_BRANCH 2>/dev/null
r main $git push origin HEAD:refs/heads/main
r main-case $git push origin HEAD:refs/heads/Main
r new-branch $git push origin HEAD:refs/heads/other
r sub-branch $git push origin HEAD:refs/heads/$TRIMO_BRANCH/sub
$git tag v1; r tag $git push origin v1
r delete $git push origin :refs/heads/$TRIMO_BRANCH
r delete-main $git push origin :refs/heads/main
r replace $git push origin HEAD:refs/replace/$($git rev-parse HEAD)
r notes $git push origin HEAD:refs/notes/commits
r mirror $git push --mirror origin
r mixed $git push origin HEAD:refs/heads/$TRIMO_BRANCH HEAD:refs/heads/mixed
r escape curl -sf http://127.0.0.1:3128/repository.git/../../../etc/passwd --path-as-is
r objects curl -sf http://127.0.0.1:3128/repository.git/config
while read -r name url; do r "$name" curl -sSf -m 10 -o /dev/null "$url"; done < <(grep ^target $TRIMO_PROMPT_FILE | cut -d' ' -f2-)
while read -r name url; do r "direct-$name" curl --noproxy '*' -sSf -m 5 -o /dev/null "$url"; done < <(grep ^target $TRIMO_PROMPT_FILE | cut -d' ' -f2-)
r sudo su root -c id
r setuid bash -c 'cp /bin/bash /tmp/b && chmod u+s /tmp/b && /tmp/b -p -c "test $(id -u) = 0"'
r journal bash -c 'echo x >> /var/lib/trimo/journal'
r preboot bash -c 'echo x >> /opt/trimo/preboot.sh'
r killtunnel bash -c 'kill -9 $(pgrep -u nobody)'
r killroot bash -c 'kill -9 1'
cp /tmp/results RESULTS; git add RESULTS; git commit -qm Results
`;

beforeAll(async () => {
  rig = await startRig({});
  const yml = "egress:\n  allow: ['deb.debian.org:80', 'localhost.localdomain:80']\n";
  await rig.configure(repository, yml);
  await rig.github.repositories.git(repository, ["tag", "v0", "main"]);
  await rig.startApp();
  const daemon = rig.startDaemon("studio", rig.enroll("studio"), {
    agents: { hostile: { adapter: "script", command: ["bash", "-c", attack] } },
  });
  await until("the daemon", () => daemon.output().includes('"connected"'));
  listener = createServer((_request, response) => {
    heard += 1;
    response.end("here");
  });
  await new Promise<void>((resolve) => listener.listen(0, "0.0.0.0", resolve));
});
afterAll(async () => {
  listener.close();
  await rig.stop();
});

test("nothing but the run's own branch moves, and only forward; nothing but the allowlist is reached", async () => {
  const { github } = rig;
  const { port } = listener.address() as AddressInfo;
  const own = Object.values(networkInterfaces())
    .flat()
    .filter((row) => row?.family === "IPv4")
    .map((row) => row?.address ?? "");
  const online = await fetch("http://deb.debian.org/debian/dists/bookworm/Release", {
    method: "HEAD",
  }).then(
    (answer) => answer.ok,
    () => false,
  );
  const targets = [
    ...own.map((address, index) => `target host-${index} http://${address}:${port}/`),
    `target host-docker http://172.17.0.1:${port}/`,
    "target one http://1.1.1.1/",
    "target one-tls https://1.1.1.1/",
    "target metadata http://169.254.169.254/latest/meta-data/",
    "target decimal http://2130706433/",
    "target github https://api.github.com/",
    `target forge ${github.url}/acme/app`,
    "target other http://example.com/",
    "target allowed http://deb.debian.org/debian/dists/bookworm/Release",
  ];
  before = await github.repositories.branches(repository);
  const issue = await github.openIssue("ana", repository, "Attack", targets.join("\n"));
  await github.label("ana", repository, issue, "trimo");
  await until(
    "the end",
    async () =>
      (await github.comments(repository, issue)).find((one) =>
        /\n(✅|❌|⌛|💔) \*\*Run/.test(one.body),
      ),
    110_000,
  );

  const branch = `trimo/${issue}-attack`;
  const after = await github.repositories.branches(repository);
  expect(Object.keys(after).sort()).toEqual([...Object.keys(before), branch].sort());
  expect(after.main).toBe(before.main);
  expect(await github.repositories.git(repository, ["tag", "--list"])).toBe("v0");
  const refs = await github.repositories.git(repository, ["for-each-ref", "--format=%(refname)"]);
  expect(refs).not.toMatch(/refs\/(replace|notes)/);
  const subjects = await github.repositories.git(repository, [
    "log",
    "--format=%s",
    `main..${branch}`,
  ]);
  // Forward only: both first commits are still there.
  expect(subjects.split("\n")).toEqual(expect.arrayContaining(["One", "Two", "Results"]));

  const results = await github.repositories.git(repository, ["show", `${branch}:RESULTS`]);
  const got = Object.fromEntries(
    results
      .split("\n")
      .map((line) => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 2)]),
  );
  const allowed = Object.keys(got).filter((name) => got[name] === "done");
  expect(allowed).toEqual(online ? ["allowed"] : []);
  expect(got["wrapper-force"]).toContain("history only goes forward");
  expect(got["wrapper-main"]).toContain(`only the branch ${branch}`);
  expect(got.main).toContain(`only the branch ${branch}`);
  expect(heard).toBe(0);
});
