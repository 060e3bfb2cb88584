/** What a page is made from; the stand-in has it. */
type Source = {
  repositories: { git(fullName: string, args: string[]): Promise<string> };
  pulls(fullName: string): Promise<
    {
      number: number;
      state: string;
      draft: boolean;
      body: string | null;
      commits: number;
      head: { ref: string; sha: string };
      base: { ref: string };
    }[]
  >;
  comments(fullName: string, issue: number): Promise<{ user: { login: string }; body: string }[]>;
  checks(fullName: string): {
    name: string;
    head_sha: string;
    status: string;
    conclusion: string | null;
    output: { title: string; summary: string };
  }[];
};

/** A plain page for issues, pull requests and commits, so that the demo's links lead somewhere. */
export async function page(path: string, github: Source): Promise<string | null> {
  const match = /^\/([^/]+\/[^/]+)\/(issues|pull|commit)\/([0-9a-f]+)$/.exec(path);
  const [, fullName = "", kind, id = ""] = match ?? [];
  if (!kind) return null;
  if (kind === "commit") {
    const text = await github.repositories
      .git(fullName, ["show", "--stat", "--patch", id])
      .catch(() => null);
    return text && frame(`Commit ${id.slice(0, 7)}`, `<pre>${escapeHtml(text)}</pre>`);
  }
  const number = Number(id);
  const pull = (await github.pulls(fullName)).find((row) => row.number === number);
  const comments = await github.comments(fullName, number).catch(() => []);
  const checks = pull
    ? github.checks(fullName).filter((row) => row.head_sha === pull.head.sha)
    : [];
  const parts = [
    pull
      ? `<p>${pull.draft ? "draft" : pull.state} · ${escapeHtml(pull.head.ref)} → ${escapeHtml(pull.base.ref)} · ${pull.commits} commits</p><pre>${escapeHtml(pull.body ?? "")}</pre>`
      : "",
    ...checks.map(
      (row) =>
        `<h2>${escapeHtml(row.name)}: ${row.conclusion ?? row.status}</h2><p>${escapeHtml(row.output.title)}</p><pre>${escapeHtml(row.output.summary)}</pre>`,
    ),
    ...comments.map(
      (row) => `<h2>${escapeHtml(row.user.login)}</h2><pre>${escapeHtml(row.body)}</pre>`,
    ),
  ];
  return frame(`${fullName} #${number}`, parts.join("\n"));
}

function frame(title: string, body: string): string {
  return `<!doctype html><meta charset="utf-8"><title>${escapeHtml(title)}</title><style>body{font:15px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}pre{white-space:pre-wrap;background:#f6f7f8;padding:1rem}</style><h1>${escapeHtml(title)}</h1><p>Markdown as it was sent; GitHub's stand-in does not render it.</p>${body}`;
}

function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
