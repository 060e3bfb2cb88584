import type { Cause } from "../state/cause.ts";

/** What stopped a run, as the end of "cancelled by …": plain text, without Markdown. */
export function causeWords(cause: Cause): string {
  switch (cause.by) {
    case "person":
      return cause.login;
    case "pull":
      return `${cause.login}, when the pull request was ${cause.merged ? "merged" : "closed"}`;
    case "branch":
      return `${cause.login}, when the branch was deleted`;
    case "issue":
      return `Trimo, because the issue was ${cause.change}`;
    case "repository":
      return cause.change === "removed"
        ? "Trimo, because the App was removed from the repository"
        : `Trimo, because the repository was ${cause.change}`;
    case "uninstalled":
      return `Trimo, because the App was uninstalled from ${cause.account}`;
    case "refusal":
      return `Trimo, because GitHub refuses the branch ${cause.branch}: ${cause.why}`;
    case "empty":
      return "Trimo, because the repository has no commit yet";
    case "unchanged":
      return "Trimo, because there was nothing to change";
    case "daemon":
      return cause.name;
  }
}
