import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text as textOf } from "node:stream/consumers";
import { extract } from "tar-stream";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import {
  type Context,
  ContextError,
  commitContext,
  folderContext,
} from "../../../daemon/images/context.ts";

const made: string[] = [];
let folder: string;
const write = (path: string, text: string) => {
  mkdirSync(join(folder, path, ".."), { recursive: true });
  writeFileSync(join(folder, path), text);
};
const git = (...args: string[]) =>
  execFileSync("git", ["-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", ...args])
    .toString()
    .trim();
function committed(): string {
  git("add", "-A");
  git("commit", "-qm", "x");
  return git("rev-parse", "HEAD");
}
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "trimo-context-"));
  made.push(folder);
  write(".trimo/Dockerfile", "FROM a\n");
  write("src/a.js", "a\n");
  write("src/b.js", "b\n");
  write("run.sh", "#!/bin/sh\n");
  chmodSync(join(folder, "run.sh"), 0o755);
  symlinkSync("src/a.js", join(folder, "link"));
  git("init", "-q");
});
afterAll(() => made.forEach((one) => void rmSync(one, { recursive: true })));

async function entries(context: Context): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  const tar = extract();
  context.tar().pipe(tar as never);
  for await (const entry of tar) {
    const { name, type, mode, linkname } = entry.header;
    const text = await textOf(entry as never);
    found[name] = `${type} ${((mode ?? 0) & 0o111) > 0 ? "x" : "-"} ${linkname ?? text}`;
  }
  return found;
}
const all = {
  ".trimo/Dockerfile": "file - FROM a\n",
  link: "symlink x src/a.js",
  "run.sh": "file x #!/bin/sh\n",
  "src/a.js": "file - a\n",
  "src/b.js": "file - b\n",
};

describe.each([
  ["a folder", async () => await folderContext(folder, ".trimo/Dockerfile")],
  [
    "a commit",
    async () => await commitContext(join(folder, ".git"), committed(), ".trimo/Dockerfile"),
  ],
])("the context of %s", (_what, read) => {
  test("is all of it but .git, with modes and links", async () => {
    const context = await read();
    expect(await entries(context)).toMatchObject(all);
    expect(Object.keys(await entries(context)).filter((name) => name.startsWith(".git/"))).toEqual(
      [],
    );
  });
  test("leaves out what .dockerignore says, and takes back what it says", async () => {
    write(".dockerignore", "*\n!.trimo\n!src\nsrc/b.js\n");
    const names = Object.keys(await entries(await read())).sort();
    expect(names).toEqual([".trimo/Dockerfile", "src/a.js"]);
  });
  test("listens to <Dockerfile>.dockerignore first, and always has the Dockerfile", async () => {
    write(".dockerignore", "src\n");
    write(".trimo/Dockerfile.dockerignore", "*\n!src/b.js\n");
    expect(Object.keys(await entries(await read())).sort()).toEqual([
      ".trimo/Dockerfile",
      "src/b.js",
    ]);
  });
  test("without its Dockerfile says so", async () => {
    rmSync(join(folder, ".trimo"), { recursive: true });
    await expect(read()).rejects.toThrow(ContextError);
  });
});

test("a commit has another name when what goes in changes, and only then", async () => {
  const hash = async () =>
    (await commitContext(join(folder, ".git"), committed(), ".trimo/Dockerfile")).hash;
  write(".dockerignore", "*\n!src\n!run.sh\n");
  const first = await hash();
  write("other.js", "not in it\n");
  expect(await hash()).toBe(first);
  chmodSync(join(folder, "run.sh"), 0o644);
  const second = await hash();
  expect(second).not.toBe(first);
  write("src/a.js", "A\n");
  expect(await hash()).not.toBe(second);
});

test("no attribute of a commit changes what is sent, and a link is no Dockerfile", async () => {
  write(".gitattributes", "* export-subst text\nsrc export-ignore\nsrc/** export-ignore\n");
  write(".trimo/Dockerfile", "# $Format:%nFROM evil/image%n$\nFROM a\n");
  const mirror = join(folder, ".git");
  const sent = await entries(await commitContext(mirror, committed(), ".trimo/Dockerfile"));
  expect(sent[".trimo/Dockerfile"]).toContain("$Format:%nFROM evil/image%n$");
  expect(sent["src/a.js"]).toBe("file - a\n");
  rmSync(join(folder, ".trimo/Dockerfile"));
  symlinkSync("../src/a.js", join(folder, ".trimo/Dockerfile"));
  await expect(commitContext(mirror, committed(), ".trimo/Dockerfile")).rejects.toThrow(
    "is a link",
  );
});

test("rules are heeded as written, in their case", async () => {
  write(".dockerignore", "SRC\n");
  expect(Object.keys(await entries(await folderContext(folder, ".trimo/Dockerfile")))).toContain(
    "src/a.js",
  );
});
