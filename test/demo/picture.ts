import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import MarkdownIt from "markdown-it";
import { buttonLabels } from "../../app/view/origin.ts";
import { type Rig, startRig, until } from "../support/rig.ts";
import { scriptCast } from "./cast.ts";

// `node --import tsx test/demo/picture.ts`: makes docs/run.png, the picture of README, out of one real
// run's comment and check run as GitHub has them. Needs Docker, the base image and a Chromium.

const root = fileURLToPath(new URL("../..", import.meta.url));
const widthPx = 980;

const style = `
  body { margin: 0; padding: 24px; background: #fff; color: #1f2328; width: ${widthPx - 48}px;
    font: 14px/1.5 -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif; }
  section { border: 1px solid #d1d9e0; border-radius: 6px; margin-bottom: 16px; overflow: hidden; }
  section:last-child { margin-bottom: 0; }
  header { background: #f6f8fa; border-bottom: 1px solid #d1d9e0; padding: 8px 16px; color: #59636e; }
  header b { color: #1f2328; }
  header i { font-style: normal; border: 1px solid #d1d9e0; border-radius: 1em; padding: 0 7px; font-size: 12px; }
  article { padding: 8px 16px; }
  code { background: #f0f1f3; border-radius: 6px; padding: .15em .4em; font: 12px ui-monospace, monospace; }
  pre { background: #f6f8fa; border-radius: 6px; padding: 12px; } pre code { background: none; padding: 0; }
  table { border-collapse: collapse; } th, td { border: 1px solid #d1d9e0; padding: 4px 12px; }
  th, td:not(:first-child) { white-space: nowrap; }
  blockquote { border-left: 4px solid #d1d9e0; margin: 8px 0; padding: 0 12px; color: #59636e; }
  a { color: #0969da; text-decoration: none; } sub { color: #59636e; }
  .mark { color: #1a7f37; font-weight: 600; }
  .button { float: right; border: 1px solid #d1d9e0; border-radius: 6px; padding: 0 10px; margin-left: 6px;
    background: #f6f8fa; color: #1f2328; font-size: 12px; line-height: 22px; }`;

type Shown = { comment: string; check: { title: string; summary: string; actions: string[] } };

const markdown = new MarkdownIt({ html: true, linkify: false });
/** As GitHub shows it: without HTML comments, commits by seven characters. */
const html = (text: string) =>
  markdown.render(
    text.replace(/<!--[\s\S]*?-->/g, "").replace(/\b([0-9a-f]{7})[0-9a-f]{33}\b/g, "`$1`"),
  );

function page({ comment, check }: Shown): string {
  const buttons = check.actions.map((label) => `<span class="button">${label}</span>`).reverse();
  return `<!doctype html><meta charset="utf-8"><style>${style}</style><body>
<section><header><b>trimo</b> <i>bot</i> commented on issue #1</header><article>${html(comment)}</article></section>
<section><header>${buttons.join("")}<span class="mark">✓</span> <b>Trimo</b> — ${check.title}</header>
<article>${html(check.summary)}</article></section>
<script>document.body.dataset.height = String(document.documentElement.scrollHeight)</script></body>`;
}

/** Plays one run of the demo's script before GitHub's stand-in. */
async function playRun(rig: Rig): Promise<Shown> {
  const { github } = rig;
  const cast = scriptCast();
  const yml = `agent: ${cast.agent}\nverify:\n  - ${JSON.stringify("test -s AUTHORS")}\n`;
  const path = ".github/trimo.yml";
  await github.repositories.commitFile("demo/app", "main", path, yml, "Configure Trimo");
  await rig.startApp();
  const settings = { slots: 1, agents: { [cast.agent]: cast.settings } };
  rig.startDaemon("laptop", rig.enroll("laptop"), settings, cast.env);
  const issue = await github.openIssue("ana", "demo/app", cast.title, cast.body);
  await github.label("ana", "demo/app", issue, "trimo");
  const comment = await until("the run's end", async () =>
    (await github.comments("demo/app", issue)).find(({ body }) => /^✅ \*\*Run 1\*\*/m.test(body)),
  );
  const check = await until("its check", () =>
    github.checks("demo/app").find((row) => row.conclusion === "success"),
  );
  const { title, summary } = check.output;
  const actions = Object.values(buttonLabels);
  return { comment: comment.body, check: { title, summary, actions } };
}

function chromium(folder: string, ...args: string[]): string {
  const program = process.env.CHROMIUM ?? "chromium";
  const quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"];
  const offline = ["--disable-background-networking", "--disable-sync", "--no-first-run"];
  const profile = `--user-data-dir=${join(folder, "profile")}`;
  try {
    const all = [...quiet, ...offline, profile, ...args, join(folder, "page.html")];
    return execFileSync(program, all, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
  } catch (error) {
    throw new Error(`${program} failed: install Chromium, or name it in CHROMIUM. ${error}`);
  }
}

const folder = mkdtempSync(join(tmpdir(), "trimo-picture-"));
const rig = await startRig({
  repositories: [{ fullName: "demo/app", source: root }],
  people: { ana: "admin" },
});
try {
  writeFileSync(join(folder, "page.html"), page(await playRun(rig)));
  const dom = chromium(folder, `--window-size=${widthPx},400`, "--dump-dom");
  const height = Number(/data-height="(\d+)"/.exec(dom)?.[1]);
  const to = join(root, "docs/run.png");
  chromium(folder, `--window-size=${widthPx},${height}`, `--screenshot=${to}`);
  process.stdout.write(`${to}: ${widthPx} × ${height}\n`);
} finally {
  await rig.stop();
  rmSync(folder, { recursive: true, force: true });
}
