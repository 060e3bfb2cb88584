/** What stands where a secret was. */
const mask = "***";
/** Shorter ones would mask ordinary words. */
const secretMin = 6;

/** What looks like a credential, whoever's it is: GitHub's, AWS's, OpenAI's and Anthropic's, Slack's. */
const shapes =
  /\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|sk-[A-Za-z0-9_-]{20,}|xox[abprs]-[A-Za-z0-9-]{10,})/g;

/** Replaces every secret in a whole text. */
export function redact(text: string, secrets: Iterable<string>): string {
  let clean = text;
  for (const secret of ordered(secrets)) clean = clean.replaceAll(secret, mask);
  return clean.replace(shapes, mask);
}

/** Longest first, so that a secret inside another leaves nothing of the longer one; a line each. */
function ordered(secrets: Iterable<string>): string[] {
  const lines = [...secrets].flatMap((secret) => [secret, ...secret.split("\n")]);
  return [...new Set(lines.map((line) => line.trim()))]
    .filter((line) => line.length >= secretMin)
    .sort((a, b) => b.length - a.length);
}

/** The end of a text without terminal escapes and control characters. */
export function cleanEnd(text: string, chars: number): string {
  return (
    text
      .slice(-4 * chars)
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
      .replace(/\u001b(?:\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-_])/g, "")
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed
      .replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "")
      .trim()
      .slice(-chars)
  );
}
